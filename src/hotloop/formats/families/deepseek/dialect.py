"""What DeepSeek's versions write alike. A version defines what it writes its own way."""

import json
from collections.abc import Sequence
from typing import Protocol

from hotloop.formats.bases.answer import THINK_END
from hotloop.formats.bases.answers.dialect import Forgets, MarkIds, Tail
from hotloop.formats.families.deepseek.text import EOS, TEMPLATE_MARKS, function_object
from hotloop.formats.grammar.parts import think_block
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.formats.writing.tool_text import shown_tools
from hotloop.protocol.items import Item, Message, OpaqueItem
from hotloop.seams.prompt import PromptContext


class DeepSeekDialect(Protocol):
    """The part of `bases.answers.dialect.Dialect` that most versions share."""

    def forgets(self, context: PromptContext) -> Forgets:
        return "at_questions"

    def is_question(self, item: Item) -> bool:
        """What the family writes as the user's: also what it has no other place for."""
        return isinstance(item, OpaqueItem) or (isinstance(item, Message) and item.role != "assistant")

    def thinks(self, context: PromptContext) -> bool:
        """The request asks for reasoning; by default these templates have it switched off."""
        return context.reasoning_effort not in (None, "none")

    def write_end(self, writer: TokenWriter) -> None:
        writer.mark(EOS)

    def write_outputs_end(self, writer: TokenWriter) -> None:
        return None

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        writer.text(reasoning)
        writer.mark(THINK_END)

    def write_thought_end(self, writer: TokenWriter) -> None:
        writer.mark(THINK_END)

    def encoding_tail(self, items: Sequence[Item]) -> Tail:
        return Tail()

    def sampled_calls(self, tail: Tail, names: Sequence[str], headers: Sequence[str]) -> Tail:
        return tail

    def think_block(self, ids: MarkIds, context: PromptContext) -> str | None:
        """The grammar of the think block, which the generation prompt has opened."""
        return think_block("", ids(THINK_END), THINK_END) if self.thinks(context) else None


def write_dsml_tools(writer: TokenWriter, context: PromptContext, head: str, tail: str) -> None:
    """The tools behind the instructions, as versions with DSML calls describe them."""
    tools = shown_tools(context.tools)
    if tools:
        writer.text("\n\n" if context.instructions else "")
        writer.template(head, TEMPLATE_MARKS)
        for tool in tools:
            writer.text(json.dumps(function_object(tool), ensure_ascii=False) + "\n")
        writer.text(tail)
