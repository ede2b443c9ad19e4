"""Hypothesis strategies for items and conversations, full of text that tries to break out of its place."""

import json
from collections.abc import Callable
from functools import partial

from hypothesis import strategies as st
from tests.support.drawn import objects_of, texts_of

from hotloop.protocol.items import (
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    InputText,
    Item,
    Message,
    OpaqueItem,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.protocol.tools import Tool, decode_tools

Step = tuple[str, list[Item]]  # `input` or `response`, and its items

TOOLS: tuple[Tool, ...] = decode_tools(
    json.dumps(
        [
            {
                "type": "function",
                "name": "shell",
                "description": "Führt aus <b>",
                "strict": True,
                "parameters": {
                    "type": "object",
                    "properties": {"zeta": {"type": "integer"}, "alpha": {"type": "string"}},
                    "required": ["zeta"],
                    "additionalProperties": False,
                },
            },
            {"type": "function", "name": "bare"},
            {"type": "web_search"},
            {"type": "custom", "name": "python", "description": "runs it"},
        ],
        ensure_ascii=False,
    ).encode()
)

WORDS = [
    "a",
    " ",
    "\n",
    "\n\n",
    " the user",
    "é",
    "日本",
    "😀",
    '"',
    "\\",
    "\\n",
    "{",
    "}",
    "[1]",
    ", ",
    '{"name": 1',
    "\t",
]
_MARKERS = [
    "<|im_end|>",
    "<|im_start|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<",
    "</tool",
]
_THINK = ["<think>", "</think>"]

plain_texts = texts_of(WORDS)
texts = texts_of(WORDS + _MARKERS + _THINK)
_visible = texts_of(WORDS + _MARKERS, min_size=1).filter(str.strip)
_said = _visible.filter(lambda text: not text.startswith("\n"))  # a family strips line ends behind a think block
_thoughts = _visible.map(lambda text: text.strip("\n")).filter(bool)
_SPELLINGS: tuple[Callable[[object], str], ...] = (
    json.dumps,
    partial(json.dumps, ensure_ascii=False),
    partial(json.dumps, indent=1),
)


def _spelled(value: dict[str, object], spell: Callable[[object], str]) -> str:
    return spell(value)


arguments = st.builds(_spelled, objects_of(WORDS + _MARKERS + _THINK), st.sampled_from(_SPELLINGS))

function_calls = st.builds(
    FunctionCall, call_id=st.just("c"), name=st.sampled_from(["shell", "unknown"]), arguments=arguments
)
custom_calls = texts.map(lambda text: CustomToolCall(call_id="c", name="python", input=text))
reasonings = _thoughts.map(lambda text: Reasoning(content=[ReasoningText(text=text)]))
answers = _said.map(lambda text: Message(role="assistant", content=[OutputText(text=text)]))
calls = st.one_of(function_calls, custom_calls)
questions = texts.map(lambda text: Message(role="user", content=[InputText(text=text)]))
outputs = st.one_of(
    texts.map(lambda text: FunctionCallOutput(call_id="c", output=text)),
    texts.map(lambda text: CustomToolCallOutput(call_id="c", output=[InputText(text=text)])),
)


@st.composite
def responses(draw: st.DrawFn, *, thinks: bool) -> list[Item]:
    """What a parser can have read from one response."""
    items: list[Item] = []
    if thinks and draw(st.booleans()):
        items.append(draw(reasonings))
    made: list[Item] = draw(st.lists(calls, max_size=2))
    if not made or draw(st.booleans()):
        items.append(draw(answers))
    return items + made


inputs: st.SearchStrategy[Item] = st.one_of(
    questions,
    outputs,
    texts.map(lambda text: Message(role="developer", content=text)),
    texts.map(lambda text: Message(role="assistant", content=text)),
    texts.map(lambda text: Message(role="assistant", content=text, phase="commentary")),
    texts.map(lambda text: Reasoning(content=[ReasoningText(text=text)])),
    function_calls,
    custom_calls,
    st.just(Reasoning(encrypted_content="sealed")),
    texts.map(lambda text: OpaqueItem("web_search_call", json.dumps({"type": "web_search_call", "q": text}).encode())),
)


@st.composite
def turns(draw: st.DrawFn, *, thinks: bool) -> list[Step]:
    """`input` and `response` steps; inputs are any items in any order, split anyhow."""
    steps: list[Step] = []
    for _ in range(draw(st.integers(1, 7))):
        if draw(st.booleans()):
            steps.append(("response", draw(responses(thinks=thinks))))
        else:
            steps.append(("input", draw(st.lists(inputs, max_size=4))))
    return steps
