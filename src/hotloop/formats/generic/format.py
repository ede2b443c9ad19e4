"""Any Hugging Face chat template: what the model's own template writes is what the chain holds.

A template is a program over the whole conversation; nothing says that more messages only make its text longer. So the format
proves each step by rendering: the new conversation in full must begin with the text of the old one. Where it does not, the
chain is rewound to the last point up to which both read the same (`reasoning_dropped`, `message_reopened`, else
`history_rewritten`). Only what is new is tokenized; content is never searched for control tokens (`content_mask`).

What a turn costs: three renderings of the whole conversation as text (input, generation prompt, output), about 22 ms each at
2,000 messages and 800,000 characters with minijinja, and tokenizing of what is new. Rendering is O(history), tokenizing is
not. Families that have a format of their own pay for neither. A chain keeps its text beside its tokens, one byte a character
where it is ASCII.

The sampled ids stay in the log as they are where the template's form of the answer begins with the generation prompt, even if
the template would space the JSON of a call otherwise: from then on the log's ids stand for the template's text. Where it does
not (a prompt that opens a think block which the history leaves out), the log gets the template's form, and the engine's KV
stays valid as far as both agree.

Where it differs from the template, on purpose, beside what `messages` lists:
* Spellings of control tokens inside content do not steer the template: they stay text.
* What a template writes only at the very end of a conversation that asks for no answer is left out.
* A template that uses the date gets the one it is made with.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from hotloop.errors import InvalidRequest, UnsupportedValue
from hotloop.formats.generic.chat_template import ChatTemplate, TemplateRefusal
from hotloop.formats.generic.content_mask import ContentMask
from hotloop.formats.generic.grammar import GrammarWriter
from hotloop.formats.generic.messages import MessageLog, tool_objects
from hotloop.formats.generic.parser import GenericParser, ThinkMarks
from hotloop.formats.generic.probe import QUESTION, Profile, learn, question
from hotloop.formats.generic.text_log import Place, TextLog
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.formats.writing.text_only import refuse_unsupported
from hotloop.formats.writing.token_writer import TokenWriter
from hotloop.protocol.items import Item, Message, Reasoning
from hotloop.protocol.tools import HostedTool
from hotloop.seams.engine import Constraint
from hotloop.seams.format import Extension, Fallback, Parser, RenderState
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer

# How templates are told to keep old reasoning (engines of the families Qwen3.5, GLM-5, Nemotron-3).
_KEEP = {"preserve_thinking": True, "clear_thinking": False, "truncate_history_thinking": False}
_NO_THINKING = {"enable_thinking": False, "thinking": False}


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands beside the messages in every rendering of a chain."""

    context: PromptContext
    tools: list[object]
    variables: Mapping[str, object]


@dataclass(slots=True)
class GenericState:
    """What is remembered of a chain; never changed. `text` is the template's, masks still in it."""

    head: _Head
    messages: MessageLog
    text: TextLog | None
    generation: str | None = None  # the generation prompt, once it has been asked for

    @property
    def characters(self) -> int:
        """Length of the text."""
        return 0 if self.text is None else self.text.end.characters


class GenericFormat:
    """Implements `seams.format.Format`.

    Args:
        tokenizer: of the model.
        source: the Jinja chat template.
        variables: what the template reads beside the messages: `bos_token`, `eos_token`.
        stop_tokens: ids that end an output, beside the one that the template closes an answer with.
        today: the date for templates that ask for it; fixed, so that a chain renders the same tomorrow.

    Raises:
        ValueError: the template cannot write a conversation, or nothing in the vocabulary ends an answer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str,
        *,
        variables: Mapping[str, object] | None = None,
        stop_tokens: frozenset[int] = frozenset(),
        today: date | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._template = ChatTemplate(source, variables or {}, today)
        self.profile: Profile = learn(self._template)
        given = [value for value in (variables or {}).values() if isinstance(value, str) and value]
        spellings = {*self.profile.spellings, *given}
        self._mask = ContentMask([mark for mark in spellings if tokenizer.special(mark) is not None])
        self._grammars = GrammarWriter(self.profile.syntax, self._mask, tokenizer)
        self._table = PieceTable(tokenizer.piece)
        closing = [token for token in map(tokenizer.special, self._marks_in(self.profile.closing)) if token is not None]
        eos = (variables or {}).get("eos_token")
        end = tokenizer.special(eos) if isinstance(eos, str) else None
        self._stops: frozenset[int] = frozenset([*closing[:1], *stop_tokens, *([] if end is None else [end])])
        if not self._stops:
            raise ValueError("no control token of the vocabulary ends an answer in this chat template")
        self._spelled_stops = [mark for mark in self._mask.marks if tokenizer.special(mark) in self._stops]

    @property
    def name(self) -> str:
        """Short name of the family."""
        return "generic"

    @property
    def stop_tokens(self) -> frozenset[int]:
        """What closes an answer, and what the model's file says ends one."""
        return self._stops

    @property
    def is_fast(self) -> bool:
        """The template is rendered by minijinja, not by jinja2."""
        return self._template.is_fast

    def begin(self, context: PromptContext) -> Extension:
        """The preamble, if the template writes it alone and the same as in front of a question; else nothing yet."""
        head = self._head(context)
        state = GenericState(head, MessageLog(self.profile.dialect, self._mask, context.instructions), None)
        try:
            alone = self._render(head, state.messages.entries)
            asked = self._render(head, [*state.messages.entries, question()])
        except InvalidRequest:
            alone = asked = ""
        if not alone or not asked.startswith(alone):
            return Extension(0, array("I"), state)
        return self._write(state, 0, state.messages, alone)

    def extend(self, state: RenderState, length: int, new_items: Sequence[Item]) -> Extension | Fallback:
        """See `Format.extend`; never a Fallback. Raises InvalidRequest for what the template refuses."""
        assert isinstance(state, GenericState)
        refuse_unsupported(new_items)
        messages = state.messages.extended(new_items)
        if not len(messages) or not new_items:
            return Extension(length, array("I"), GenericState(state.head, messages, state.text))
        return self._write(state, length, messages, self._render(state.head, messages.entries))

    def _write(self, state: GenericState, length: int, messages: MessageLog, text: str) -> Extension:
        log, place = (None, Place()) if state.text is None else state.text.proven(text)
        reason = None
        if place.tokens < length:
            reason = self._reason(state, messages, place, text)
        writer = TokenWriter(self._tokenizer, place.tokens)
        places: list[Place] = []
        for offset, piece, is_mark in self._mask.pieces(text[place.characters :]):
            if is_mark:
                if offset:
                    places.append(Place(place.characters + offset, writer.checkpoint()))
                writer.mark(piece)
            else:
                writer.text(self._mask.restore(piece))
        if len(text) > place.characters:
            places.append(Place(len(text), writer.checkpoint()))
            log = TextLog(log, text[place.characters :], tuple(places), places[-1])
        tokens = writer.tokens()
        checkpoints = tuple(sorted({one for one in writer.checkpoints if one > place.tokens}))
        return Extension(place.tokens, tokens, GenericState(state.head, messages, log), checkpoints, reason)

    def _reason(self, state: GenericState, messages: MessageLog, place: Place, text: str) -> str:
        think = self.profile.think
        assert state.text is not None
        if think is not None:
            before = state.text.text_from(place.characters)
            if before.count(think.closing) > text[place.characters :].count(think.closing):
                return "reasoning_dropped"
        return "history_rewritten"

    def generation_prompt(self, state: RenderState) -> "array[int]":
        """What the template adds when it asks for an answer."""
        assert isinstance(state, GenericState)
        return self._encoded(self._generation(state))

    def commit(self, state: RenderState, length: int, sampled: Sequence[int], output: Sequence[Item]) -> Extension:
        """Generation prompt, sampled ids, closing; or the template's own form, see the module."""
        assert isinstance(state, GenericState)
        if not output:
            return Extension(length, array("I"), state)
        messages = state.messages.extended(output)
        text = self._render(state.head, messages.entries)
        generation = self._generation(state)
        _, place = (None, Place()) if state.text is None else state.text.proven(text)
        if place.characters < state.characters or not text.startswith(generation, place.characters):
            return self._write(state, length, messages, text)
        answer = text[place.characters + len(generation) :]
        tokens = self._encoded(generation)
        tokens.extend(sampled[:-1] if sampled and sampled[-1] in self._stops else sampled)
        tokens.extend(self._encoded(self._unsaid(answer, sampled, output) + answer[self._end_of(answer) :]))
        end = Place(len(text), length + len(tokens))
        log = TextLog(state.text, text[place.characters :], (end,), end)
        return Extension(length, tokens, GenericState(state.head, messages, log), (end.tokens,))

    def _think(self, context: PromptContext) -> ThinkMarks | None:
        """The marks of reasoning; open already if the generation prompt of this context opens the block."""
        think = self.profile.think
        if think is None:
            return None
        head = self._head(context)
        prompt = self._prompt(head, [question()], self._render(head, [question()])).rstrip()
        return ThinkMarks(think.opening, think.closing, is_open=prompt.endswith(think.opening))

    def _unsaid(self, answer: str, sampled: Sequence[int], output: Sequence[Item]) -> str:
        """The end of a think block in which the output was cut off."""
        think = self.profile.think
        if think is None or not isinstance(output[-1], Reasoning) or think.closing not in answer:
            return ""
        said = b"".join(map(self._tokenizer.piece, sampled)).decode("utf-8", "replace")
        if think.closing in said:
            return ""
        at = answer.rindex(think.closing)
        start = len(answer[:at].rstrip())
        return answer[start : self._end_of(answer)]

    def parser(self, context: PromptContext) -> Parser:
        """A parser for the syntax that the template writes."""
        return GenericParser(self._table, self._stops, self._think(context), self.profile.syntax, context.tools)

    def constraint(self, context: PromptContext, rules: CallRules) -> Constraint | None:
        """See `grammar`."""
        return self._grammars.constraint(context, rules, self._think(context))

    def encode_items(self, context: PromptContext, items: Sequence[Item]) -> "array[int]":
        """The ids a model would sample for `items`: what the template writes for them behind a question."""
        head = self._head(context)
        asked = MessageLog(self.profile.dialect, self._mask, context.instructions).extended([_QUESTION])
        before = self._render(head, asked.entries)
        generation = self._prompt(head, asked.entries, before)
        text = self._render(head, asked.extended(items).entries)
        start = len(before)
        if text.startswith(generation, start):
            answer = text[start + len(generation) :]
        else:
            answer = self._answer_elsewhere(text[start:], generation)
        end = self._end_of(answer)
        tokens = self._encoded(answer[:end])
        stop = next((mark for mark in self._spelled_stops if answer.startswith(mark, end)), None)
        tokens.append(min(self._stops) if stop is None else self._special(stop))
        return tokens

    def _answer_elsewhere(self, written: str, generation: str) -> str:
        """The answer behind a generation prompt that opens a think block, where the history has none."""
        think = self.profile.think
        if think is not None and generation.rstrip().endswith(think.opening):
            head = generation.rstrip().removesuffix(think.opening)
            if written.startswith(head.rstrip()):
                return f"{think.closing}\n\n" + written[len(head.rstrip()) :].lstrip("\n")
        common = next((i for i, (a, b) in enumerate(zip(written, generation, strict=False)) if a != b), len(generation))
        return written[common:]

    def _head(self, context: PromptContext) -> _Head:
        tools = tool_objects(context.tools, self._mask)
        if tools and not self.profile.dialect.takes_tools:
            index = next(i for i, tool in enumerate(context.tools) if not isinstance(tool, HostedTool))
            raise UnsupportedValue("This model's chat template has no place for tools.", param=f"tools[{index}]")
        variables: dict[str, object] = {}
        if context.reasoning_effort == "none":
            variables.update(_NO_THINKING)
        elif context.reasoning_effort is not None:
            variables["reasoning_effort"] = context.reasoning_effort
        if context.keep_reasoning:
            variables.update(_KEEP)
        return _Head(context, tools, variables)

    def _render(self, head: _Head, messages: Sequence[Mapping[str, object]], *, generate: bool = False) -> str:
        try:
            text = self._template.render(messages, head.tools, head.variables, generate=generate)
        except TemplateRefusal as refusal:
            said = f": {refusal.reason}" if refusal.reason else "."
            raise InvalidRequest(
                f"The model's chat template refuses this conversation{said}", param="input"
            ) from refusal
        if self.profile.escapes:
            text = self._mask.unescaped(text)
        return text if generate else text.removesuffix(self.profile.tail)

    def _generation(self, state: GenericState) -> str:
        if state.generation is None:
            state.generation = self.profile.generation
            if state.text is not None:
                asked = self._asked(state.head, state.messages.entries)
                _, place = state.text.proven(asked)
                if place == state.text.end:
                    state.generation = asked[place.characters :]
        return state.generation

    def _prompt(self, head: _Head, messages: Sequence[Mapping[str, object]], text: str) -> str:
        asked = self._asked(head, messages)
        return asked[len(text) :] if asked.startswith(text) else self.profile.generation

    def _asked(self, head: _Head, messages: Sequence[Mapping[str, object]]) -> str:
        try:
            return self._render(head, messages, generate=True)
        except InvalidRequest:
            return ""  # the template would not ask here; a turn may still end without an answer

    def _end_of(self, answer: str) -> int:
        """Where an answer's last stop token stands; its end if there is none."""
        return max((at for mark in self._spelled_stops if (at := answer.rfind(mark)) >= 0), default=len(answer))

    def _encoded(self, text: str) -> "array[int]":
        writer = TokenWriter(self._tokenizer)
        for _, piece, is_mark in self._mask.pieces(text):
            if is_mark:
                writer.mark(piece)
            else:
                writer.text(self._mask.restore(piece))
        return writer.tokens()

    def _special(self, mark: str) -> int:
        token = self._tokenizer.special(mark)
        assert token is not None
        return token

    def _marks_in(self, text: str) -> list[str]:
        return [piece for _, piece, is_mark in self._mask.pieces(text) if is_mark]


_QUESTION = Message(role="user", content=QUESTION)
