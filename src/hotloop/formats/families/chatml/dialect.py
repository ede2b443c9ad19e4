"""ChatML as the Qwen2.5 and Qwen3 families write it, with Qwen's tool calls in JSON; also our demonstration model's format.

    chatml           no thinking, no system text of its own
    qwen2.5          introduces itself where the request has no instructions
    qwen3            thinks; drops the reasoning of earlier loops at the next question
    qwen3-thinking   the same, with a think block that the generation prompt has opened already (Thinking-2507)
    qwq              that with QwQ's own preamble

Where it differs from the published templates, on purpose, beside what `bases/chat/format.py` lists:
* An empty think block (thinking switched off) stays in the text until the next question, as the model wrote behind it; the
  template drops it one step later, which would cost a rewind per tool call.
* Reasoning stays until the next question also where the template of the family drops it from the very next prompt (QwQ).
* An answer without reasoning has no think block; Qwen3's template gives the conversation's last message an empty one.
* Arguments of calls stand as they were written; templates that take objects write them as `json.dumps` does.
* A first developer message stays a message of its own behind the instructions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hotloop.formats.bases.answer import THINK, THINK_END, Phase
from hotloop.formats.bases.chat.dialect import RESPONSE, RESPONSE_END, is_question
from hotloop.formats.bases.chat.format import ChatFormat
from hotloop.formats.families.chatml.grammar import build_constraint
from hotloop.formats.families.chatml.text import (
    END_OF_TEXT,
    IM_END,
    IM_START,
    write_call,
    write_end,
    write_head,
    write_preamble,
    write_think,
    write_think_end,
)
from hotloop.formats.parsing.call_reader import JSON_CALLS
from hotloop.formats.parsing.call_syntax import CallSyntax
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.protocol.items import Item
from hotloop.seams.engine import Constraint
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ChatML:
    """Implements `dialect.Dialect`.

    Args:
        name: family name.
        thinks: the model reasons in think blocks.
        opens_think: the generation prompt opens the block.
        default_system: what the system message says when the request has no instructions.
        separates_tools: an empty line stands in front of the tools even where nothing stands before them.
        off_block: think block, in two parts around its end marker, that switches thinking off.
    """

    name: str = "chatml"
    thinks: bool = False
    opens_think: bool = False
    default_system: str | None = None
    separates_tools: bool = False
    off_block: tuple[str, str] = ("\n\n", "\n\n")

    required = (IM_END, IM_START)
    stops = (IM_END, END_OF_TEXT)
    strips = False
    trims = False
    calls: CallSyntax = JSON_CALLS

    def constraint(
        self, context: PromptContext, rules: CallRules, marks: Mapping[str, int], *, off: bool
    ) -> Constraint | None:
        """See `grammar`."""
        return build_constraint(context, rules, marks, thinks=self.thinks and not off, is_open=self.opens_think)

    def is_verbatim(self, *, off: bool) -> bool:
        """See `Dialect`."""
        return True

    def is_query(self, item: Item) -> bool:
        """See `Dialect`."""
        return is_question(item)

    def is_rewritten(self, *, off: bool, thought: bool) -> bool:
        """See `Dialect`."""
        return thought or off

    def write_preamble(self, writer: TokenWriter, context: PromptContext) -> None:
        """See `Dialect`."""
        write_preamble(writer, context, self.default_system, always_separates=self.separates_tools)

    def write_message(self, writer: TokenWriter, role: Literal["user", "system"], text: str, *, off: bool) -> None:
        """See `Dialect`."""
        write_head(writer, role)
        writer.text(text)

    def write_assistant(self, writer: TokenWriter, reasoning: str, *, shown: bool, off: bool) -> bool:
        """See `Dialect`."""
        write_head(writer, "assistant")
        if not shown or not (reasoning or off):
            return False
        if reasoning:
            write_think(writer, reasoning)
        else:
            self._write_off_block(writer)
        return True

    def write_text(self, writer: TokenWriter, text: str, *, behind_block: bool) -> None:
        """See `Dialect`. The template strips what follows a think block, and only that."""
        writer.text(text.lstrip("\n") if behind_block else text)

    def write_call(self, writer: TokenWriter, name: str, arguments: str, after: Phase) -> None:
        """See `Dialect`."""
        if after in ("text", "calls"):
            writer.text("\n")
        write_call(writer, name, arguments)

    def write_output(self, writer: TokenWriter, text: str, after: Phase) -> None:
        """See `Dialect`."""
        if after == "":
            writer.mark(IM_START)
            writer.text("user")
        writer.text("\n")
        writer.mark(RESPONSE)
        writer.text(f"\n{text}\n")
        writer.mark(RESPONSE_END)

    def write_end(self, writer: TokenWriter) -> None:
        """See `Dialect`."""
        write_end(writer)

    def write_prompt(self, writer: TokenWriter, *, off: bool) -> None:
        """See `Dialect`."""
        write_head(writer, "assistant")
        if off:
            self._write_off_block(writer)
        elif self.opens_think:
            writer.mark(THINK)
            writer.text("\n")

    def write_thought(self, writer: TokenWriter, reasoning: str) -> None:
        """See `Dialect`."""
        if self.opens_think:
            writer.text(reasoning)
            write_think_end(writer)
        elif reasoning:
            write_think(writer, reasoning)

    def write_thought_end(self, writer: TokenWriter) -> None:
        """See `Dialect`."""
        write_think_end(writer)

    def stop_after(self, items: Sequence[Item]) -> str:
        """See `Dialect`."""
        return IM_END

    def _write_off_block(self, writer: TokenWriter) -> None:
        inside, behind = self.off_block
        writer.mark(THINK)
        writer.text(inside)
        writer.mark(THINK_END)
        writer.text(behind)


def chatml(tokenizer: Tokenizer, *, thinking: bool) -> ChatFormat:
    """The format of a ChatML model with calls in JSON that says nothing of itself."""
    return ChatFormat(tokenizer, ChatML(thinks=thinking))
