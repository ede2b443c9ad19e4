"""Hypothesis strategies for conversations that a family's own template can express.

    input: (developer) question ─▶ response: (reasoning) (text) (calls) ─▶ input: their outputs ─▶ response … ─▶ input …

What differs between families is a `Shape`. Texts are full of look-alikes of the family's special tokens and its markers.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
from hypothesis import strategies as st
from tests.support import conversations
from tests.support.conversations import WORDS, Step
from tests.support.drawn import objects_of, texts_of

from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)


def any_text(_text: str) -> bool:
    return True


def as_it_is(text: str) -> str:
    return text


def as_drawn(_tool: str, arguments: str) -> str:
    return arguments


def plain_call_id(index: int, _name: str) -> str:
    return f"call_{index}"


def is_stripped(text: str) -> bool:
    """For families whose template strips the text."""
    return text == text.strip()


def starts_visibly(text: str) -> bool:
    """For families whose template or parser strips line ends in front of the text."""
    return not text.startswith("\n")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What conversations a family can express.

    Args:
        anything: any items in any order are fine; the oracle knows how each is written.
        reasoning, calls, custom, parallel: what a response may hold; `custom` also needs a custom tool in the context.
        text_with_calls: a response may hold both.
        bare_call_reasoning: reasoning may be followed by calls without a text.
        developer: system messages in the middle.
        questions_in_a_row: more than one user message without an answer between them.
        question_after_outputs: the user may speak before the model has read the outputs of tools.
        escaped_arguments: arguments may be spelled in any way JSON allows, else only as the template's `tojson` writes them.
        nested_arguments: the arguments may hold objects and lists.
        always_reasons: there is no response without reasoning.
        arguments: applied to a tool's name and the arguments drawn for it: what the model's parser can have read.
        said, thought: a text the model's parser can have read.
        clean: applied to what is drawn for a text the model said or thought.
        question: a text of the user the template renders as it is.
        call_id: of the n-th call of the conversation.
        phase: of a text in a response, where the family tells phases apart.
        markers: look-alikes beside the special tokens.
    """

    anything: bool = False
    reasoning: bool = False
    calls: bool = True
    custom: bool = True
    parallel: bool = True
    text_with_calls: bool = True
    bare_call_reasoning: bool = True
    developer: bool = True
    questions_in_a_row: bool = True
    question_after_outputs: bool = True
    escaped_arguments: bool = False
    nested_arguments: bool = True
    always_reasons: bool = False
    arguments: Callable[[str, str], str] = as_drawn
    said: Callable[[str], bool] = starts_visibly
    thought: Callable[[str], bool] = any_text
    clean: Callable[[str], str] = as_it_is
    question: Callable[[str], bool] = any_text
    call_id: Callable[[int, str], str] = plain_call_id
    phase: str | None = None
    markers: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Drawn:
    """Strategies for one shape; building them costs more than drawing."""

    shape: Shape
    texts: st.SearchStrategy[str]
    said: st.SearchStrategy[str]
    thoughts: st.SearchStrategy[str]
    function_calls: st.SearchStrategy[Item]
    custom_calls: st.SearchStrategy[Item]


@cache
def _drawn(shape: Shape, marks: tuple[str, ...]) -> _Drawn:
    words = [*WORDS, *marks, *shape.markers, *dict.fromkeys(mark[:-1] for mark in marks)]
    texts = texts_of(words)
    said = texts.map(shape.clean).filter(lambda text: bool(text.strip()) and shape.said(text))
    thoughts = texts.map(lambda text: shape.clean(text).strip("\n")).filter(
        lambda text: bool(text.strip()) and shape.thought(text)
    )
    arguments = _arguments(shape, words)

    def call(name: str, drawn: str) -> FunctionCall:
        return FunctionCall(call_id="c", name=name, arguments=shape.arguments(name, drawn))

    calls: st.SearchStrategy[Item] = st.builds(call, st.sampled_from(["shell", "bare"]), arguments)
    custom: st.SearchStrategy[Item] = texts.map(lambda text: CustomToolCall(call_id="c", name="python", input=text))
    return _Drawn(shape, texts.filter(shape.question), said, thoughts, calls, custom)


def _arguments(shape: Shape, words: Sequence[str]) -> st.SearchStrategy[str]:
    objects = objects_of(words, keys=["zeta", "alpha", "path", "ключ"], nested=shape.nested_arguments)
    if shape.escaped_arguments:
        return st.one_of(objects.map(_as_template), objects.map(json.dumps), objects.map(_indented))
    return objects.map(_as_template)


def _as_template(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _indented(value: object) -> str:
    return json.dumps(value, indent=1)


@st.composite
def responses(draw: st.DrawFn, shape: Shape, marks: tuple[str, ...], *, custom: bool = True) -> list[Item]:
    """What a parser can have read from one response. `custom`: a custom tool is offered."""
    if shape.anything:
        made = draw(conversations.responses(thinks=shape.reasoning))
        return [_in_phase(item, shape) for item in (made if custom else _without_custom(made))]
    drawn = _drawn(shape, marks)
    calls: list[Item] = []
    if shape.calls:
        one = drawn.function_calls | drawn.custom_calls if custom and shape.custom else drawn.function_calls
        calls = draw(st.lists(one, max_size=2 if shape.parallel else 1))
    says = not calls or (shape.text_with_calls and draw(st.booleans()))
    items: list[Item] = []
    if shape.always_reasons or (shape.reasoning and (says or shape.bare_call_reasoning) and draw(st.booleans())):
        items.append(Reasoning(content=[ReasoningText(text=draw(drawn.thoughts))]))
    if says:
        items.append(Message(role="assistant", content=[OutputText(text=draw(drawn.said))], phase=shape.phase))
    return items + calls


@st.composite
def dialogues(draw: st.DrawFn, shape: Shape, marks: tuple[str, ...], *, custom: bool = True) -> list[Step]:
    """`input` and `response` steps of a whole conversation. An answer may also come as input, as a resent history does."""
    if shape.anything:
        anyhow = draw(conversations.turns(thinks=shape.reasoning))
        return [(kind, items if custom or kind == "input" else _without_custom(items)) for kind, items in anyhow]
    steps: list[Step] = []
    calls_made = 0
    waiting: list[Item] = []
    for _ in range(draw(st.integers(1, 4))):
        given = outputs_for(waiting, lambda: draw(_drawn(shape, marks).texts))
        asks = shape.question_after_outputs and draw(st.integers(0, 3)) == 0
        if asks or not waiting:
            given += draw(_questions(shape, marks))
        steps += [("input", part) for part in _cut(draw, given)]
        answer, calls_made = numbered(draw(responses(shape, marks, custom=custom)), shape, calls_made)
        steps.append((draw(st.sampled_from(["response", "response", "input"])), answer))
        waiting = [item for item in answer if isinstance(item, FunctionCall | CustomToolCall)]
    if draw(st.booleans()) and waiting:
        steps.append(("input", outputs_for(waiting, lambda: draw(_drawn(shape, marks).texts))))
    return steps


def numbered(items: Sequence[Item], shape: Shape, start: int = 0) -> tuple[list[Item], int]:
    """The items with the call ids of the shape, and the number of calls so far."""
    out: list[Item] = []
    for item in items:
        if isinstance(item, FunctionCall | CustomToolCall):
            out.append(msgspec.structs.replace(item, call_id=shape.call_id(start, item.name)))
            start += 1
        else:
            out.append(item)
    return out, start


def outputs_for(calls: Sequence[Item], text: Callable[[], str]) -> list[Item]:
    """An output for each call."""
    outputs: list[Item] = []
    for call in calls:
        if isinstance(call, CustomToolCall):
            outputs.append(CustomToolCallOutput(call_id=call.call_id, output=text()))
        elif isinstance(call, FunctionCall):
            outputs.append(FunctionCallOutput(call_id=call.call_id, output=text()))
    return outputs


@st.composite
def _questions(draw: st.DrawFn, shape: Shape, marks: tuple[str, ...]) -> list[Item]:
    texts = _drawn(shape, marks).texts
    items: list[Item] = [
        Message(role="user", content=draw(texts))
        for _ in range(draw(st.integers(1, 2)) if shape.questions_in_a_row else 1)
    ]
    if shape.developer and draw(st.integers(0, 3)) == 0:
        items.insert(draw(st.integers(0, len(items))), Message(role="developer", content=draw(texts)))
    return items


def _cut(draw: st.DrawFn, items: list[Item]) -> list[list[Item]]:
    """The items in one or two steps."""
    at = draw(st.integers(0, len(items) - 1)) if items else 0
    return [part for part in (items[:at], items[at:]) if part]


def _in_phase(item: Item, shape: Shape) -> Item:
    return msgspec.structs.replace(item, phase=shape.phase) if isinstance(item, Message) else item


def _without_custom(items: Sequence[Item]) -> list[Item]:
    """A call of a custom tool that is not offered would come back as a function call."""
    kept: list[Item] = [item for item in items if not isinstance(item, CustomToolCall)]
    return kept or [Message(role="assistant", content=[OutputText(text="plain")])]
