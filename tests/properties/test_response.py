"""Whatever is written into a response, its events are whole, in order and consistent."""

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.event_order import check_response_events

from hotloop.errors import EngineTimeout
from hotloop.protocol.echo import ContextEcho, request_echo
from hotloop.protocol.items import CustomToolCall, FunctionCall, Message, Reasoning, text_of
from hotloop.protocol.open_item import ItemKind, TextLogprob
from hotloop.protocol.request import decode_create
from hotloop.protocol.response import ResponseStream, ResponseUsage

ECHO = request_echo(decode_create(b'{"model":"m"}'), "m", ContextEcho())
KINDS: list[ItemKind] = ["message", "reasoning", "function_call", "custom_tool_call"]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
LOGPROB = st.builds(
    TextLogprob,
    st.binary(max_size=3),
    st.floats(-100, 0),
    st.lists(st.tuples(st.binary(max_size=3), st.floats(-100, 0)), max_size=2),
)
DELTA = st.tuples(TEXT, st.lists(LOGPROB, max_size=2), st.sampled_from(["", "", "keep alive", "timing"]))
ITEM = st.tuples(st.sampled_from(KINDS), TEXT, st.lists(DELTA, max_size=5))
LANE = st.one_of(st.none(), st.from_regex(r"[A-Za-z0-9_.-]{1,20}", fullmatch=True))


@given(
    items=st.lists(ITEM, max_size=5),
    ending=st.sampled_from(["completed", "failed", "max_output_tokens", "content_filter", "retracted"]),
    cuts_last=st.booleans(),
    lane=LANE,
)
def test_any_response_is_whole_in_order_and_adds_up(
    items: list[tuple[ItemKind, str, list[tuple[str, list[TextLogprob], str]]]],
    ending: str,
    cuts_last: bool,
    lane: str | None,
) -> None:
    numbers = itertools.count()
    stream = ResponseStream(
        response_id="resp_1",
        created_at=5,
        echo=ECHO,
        new_id=lambda prefix: f"{prefix}_{next(numbers)}",
        stream_id=lane,
    )
    sent = stream.begin()
    is_cut = cuts_last and ending not in ("completed", "retracted")
    for index, (kind, name, deltas) in enumerate(items):
        sent += stream.open_item(kind, name)
        for text, logprobs, aside in deltas:
            sent.append(stream.delta(text, logprobs if kind == "message" else ()))
            if aside:
                sent.append(
                    stream.in_progress() if aside == "keep alive" else stream.extension("hotloop:timing", {"n": 1})
                )
        sent += stream.close_item(complete=not (is_cut and index == len(items) - 1))
    sent.append(end(stream, ending))
    events = [json.loads(event) for event in sent]
    final = check_response_events(events, lane=lane)
    assert all(event.startswith(b'{"type":"') for event in sent)
    assert json.loads(stream.final) == final
    assert [text_in(item) for item in stream.output] == [written(kind, deltas) for kind, _, deltas in items[:-1]] + [
        written(kind, deltas) if not is_cut else "".join(text for text, _, _ in deltas)
        for kind, _, deltas in items[-1:]
    ]
    assert [item["id"] for item in final["output"]] == [getattr(item, "id", None) for item in stream.output]


def end(stream: ResponseStream, ending: str) -> bytes:
    usage = ResponseUsage(1, 0, 1, 0)
    match ending:
        case "completed":
            return stream.completed(usage, 6)
        case "failed":
            return stream.failed(EngineTimeout("Too slow."), usage)
        case "retracted":
            stream.extension("hotloop:timing", {})
            stream.completed(usage, 6)
            stream.retract(2)
            return stream.failed(EngineTimeout("Too slow."), None)
        case "max_output_tokens":
            return stream.incomplete("max_output_tokens", usage)
        case _:
            return stream.incomplete("content_filter", usage)


def written(kind: ItemKind, deltas: list[tuple[str, list[TextLogprob], str]]) -> str:
    text = "".join(text for text, _, _ in deltas)
    return "{}" if kind == "function_call" and not deltas else text


def text_in(item: Any) -> str:
    match item:
        case FunctionCall():
            return item.arguments
        case CustomToolCall():
            return item.input
        case Message() | Reasoning():
            return text_of(item.content or [])
        case _:
            raise AssertionError(item)
