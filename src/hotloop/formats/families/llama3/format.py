"""Llama 3.1, 3.2 and 3.3.

    <|begin_of_text|><|start_header_id|>system<|end_header_id|> … dates, instructions <|eot_id|>
    <|start_header_id|>user<|end_header_id|> tools, question <|eot_id|>
    <|start_header_id|>assistant<|end_header_id|> {"name": …, "parameters": …}<|eot_id|>
    <|start_header_id|>ipython<|end_header_id|> "output as JSON" <|eot_id|>

Append-only always: nothing is ever written again. Every item is a message of its own. The tools stand in the first user
message, as the templates have it without being told otherwise (`tools_in_user_message`).

Where it differs from the published templates, on purpose:
* The date is the one that the 3.1 and 3.3 templates name by default; 3.2's takes today's. A chain has to read the same
  tomorrow.
* Where the first item is no message of the user, the tools are a user message of their own in front of it; the templates
  turn that item into the user's words, and fail where there is none.
* Several calls, or text and calls, of one answer are written as they were sampled. Given as input they are messages of their
  own; the templates fail for several calls and drop the text.
* Arguments of calls stand as they were written; the templates take objects and write them as `json.dumps` does.
* Reasoning is left out: the family has none. Tools that the model was built with (`builtin_tools`) are not offered.
* Item types that are carried but not interpreted become a system message holding their JSON.
* The spelling of a control token inside any content stays text.
"""

import json
from array import array
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from hotloop.formats.families.llama3.grammar import build_constraint
from hotloop.formats.families.llama3.parser import Llama3Parser
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.formats.writing.item_text import call_arguments, json_text, not_sampled
from hotloop.formats.writing.text_only import refuse_unsupported
from hotloop.formats.writing.token_writer import TokenWriter, known_tokens, required_token, written
from hotloop.formats.writing.tool_text import shown_tools, tool_object
from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    ItemReference,
    Message,
    OpaqueItem,
    Reasoning,
    opaque_text,
    text_of,
)
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer

BEGIN = "<|begin_of_text|>"
HEAD = "<|start_header_id|>"
HEAD_END = "<|end_header_id|>"
END = "<|eot_id|>"
END_OF_STEP = "<|eom_id|>"
END_OF_TEXT = "<|end_of_text|>"
PYTHON = "<|python_tag|>"

_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
_TOOLS_HEAD = (
    "Given the following functions, please respond with a JSON for a function call with its proper arguments that best "
    'answers the given prompt.\n\nRespond in the format {"name": function name, "parameters": dictionary of argument name '
    "and its value}.Do not use variables.\n\n"
)


class Llama3State(msgspec.Struct, frozen=True):
    """What is remembered of a chain."""

    context: PromptContext
    owes_tools: bool  # the tools have not been shown yet


class Llama3:
    """Implements `seams.format.Format`.

    Raises:
        ValueError: the vocabulary lacks a control token that the family cannot do without.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        for mark in (HEAD, HEAD_END):
            required_token(tokenizer, mark, self.name)
        self._end = required_token(tokenizer, END, self.name)
        self._stops = known_tokens(tokenizer, (END, END_OF_STEP, END_OF_TEXT))
        self._table = PieceTable(tokenizer.piece)
        self._prompt = written(tokenizer, lambda writer: _open(writer, "assistant"))

    @property
    def name(self) -> str:
        """Short name of the family."""
        return "llama3"

    @property
    def stop_tokens(self) -> frozenset[int]:
        """End of turn and, where the vocabulary has them, end of step and end of text."""
        return self._stops

    def begin(self, context: PromptContext) -> Extension:
        """The system message; the tools come later."""
        writer = TokenWriter(self._tokenizer)
        owes_tools = bool(shown_tools(context.tools))
        writer.mark(BEGIN)
        _open(writer, "system")
        writer.text("Environment: ipython\n" if owes_tools else "")
        writer.text(_DATES + (context.instructions or "").strip())
        _end(writer)
        return Extension(0, writer.tokens(), Llama3State(context, owes_tools), tuple(writer.checkpoints))

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension:
        """See `Format.extend`. Never a rewind."""
        assert isinstance(state, Llama3State)
        refuse_unsupported(new_items)
        writer = TokenWriter(self._tokenizer, length)
        owes_tools = state.owes_tools
        for item in new_items:
            if not _is_rendered(item):
                continue
            if owes_tools:
                _open(writer, "user")
                writer.text(_tools_text(state.context))
                owes_tools = False
                if isinstance(item, Message) and item.role == "user":
                    writer.text(text_of(item.content).strip())
                    _end(writer)
                    continue
                _end(writer)
            _write_item(writer, item)
        return Extension(length, writer.tokens(), replace(state, owes_tools=owes_tools), tuple(writer.checkpoints))

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """The head of an assistant message, behind the tools if nothing has been said yet."""
        assert isinstance(state, Llama3State)
        if not state.owes_tools:
            return self._prompt[:]
        writer = TokenWriter(self._tokenizer)
        _open(writer, "user")
        writer.text(_tools_text(state.context))
        writer.mark(END)
        return writer.tokens() + self._prompt

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Generation prompt, sampled ids, end of turn. Output without items leaves nothing behind."""
        assert isinstance(state, Llama3State)
        if not output:
            return Extension(length, array("I"), state)
        tokens = self.generation_prompt(state)
        tokens.extend(sampled[:-1] if sampled and sampled[-1] in self._stops else sampled)
        tokens.append(self._end)
        return Extension(length, tokens, replace(state, owes_tools=False), (length + len(tokens),))

    def parser(self, context: PromptContext) -> Llama3Parser:
        """A parser for one response. Calls of tools that were not offered come back as function calls."""
        python = self._tokenizer.special(PYTHON) if shown_tools(context.tools) else None
        return Llama3Parser(
            self._table,
            self._stops,
            python=python,
            has_tools=bool(shown_tools(context.tools)),
            tools=context.tools,
        )

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See `grammar`."""
        return build_constraint(context, rules)

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: text, then calls."""
        writer = TokenWriter(self._tokenizer)
        wrote: type[Item] | None = None
        for item in items:
            match item:
                case Reasoning():
                    continue
                case Message():
                    writer.text("\n" if wrote else "")
                    writer.text(text_of(item.content))
                case FunctionCall() | CustomToolCall():
                    if wrote is Message:
                        writer.mark(PYTHON)
                    elif wrote is not None:
                        writer.text("; ")
                    writer.text(_call_text(item))
                case _:
                    raise not_sampled(item)
            wrote = type(item)
        writer.mark(END)
        return writer.tokens()


def _open(writer: TokenWriter, role: str) -> None:
    writer.mark(HEAD)
    writer.text(role)
    writer.mark(HEAD_END)
    writer.text("\n\n")


def _end(writer: TokenWriter) -> None:
    writer.mark(END)
    writer.checkpoint()


def _tools_text(context: PromptContext) -> str:
    tools = (json.dumps(tool_object(tool), ensure_ascii=False, indent=4) for tool in shown_tools(context.tools))
    return _TOOLS_HEAD + "".join(f"{tool}\n\n" for tool in tools)


def _is_rendered(item: Item) -> bool:
    match item:
        case Reasoning():
            return False
        case Message(role="assistant"):
            return bool(text_of(item.content).strip())
        case _:
            return True


def _write_item(writer: TokenWriter, item: Item) -> None:
    role: str
    match item:
        case Message():
            role, text = item.role, text_of(item.content).strip()
        case FunctionCall() | CustomToolCall():
            role, text = "assistant", _call_text(item)
        case FunctionCallOutput() | CustomToolCallOutput():
            role, text = "ipython", json_text(text_of(item.output))
        case OpaqueItem():
            role, text = "system", opaque_text(item)
        case ItemReference() | Reasoning():
            raise AssertionError("references are resolved before rendering, reasoning is left out")
    _open(writer, "system" if role == "developer" else role)
    writer.text(text)
    _end(writer)


def _call_text(call: FunctionCall | CustomToolCall) -> str:
    return f'{{"name": "{call.name}", "parameters": {call_arguments(call)}}}'
