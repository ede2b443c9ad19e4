"""The checks that every integration test goes through do catch what they are there for."""

import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from tests.support.event_order import check_connection, check_response_events
from tests.support.live_server import live_server, open_socket
from tests.support.open_responses import (
    OPENAI_ONLY_EVENTS,
    check_event,
    check_event_strictly,
    check_request,
    check_response,
    event_schemas,
)
from tests.support.recorded_traffic import Exchange, RecordedTraffic, SocketTalk, sse_events
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.config import ServerSettings

Json = dict[str, Any]
TESTS = Path(__file__).parents[1]


async def recorded_turns(reasoning: str = "openai") -> list[list[Json]]:
    """A message behind reasoning, and a call."""
    async with (
        live_server(scripted_model(), ServerSettings(port=0, reasoning_events=reasoning)) as server,  # type: ignore[arg-type]
        open_socket(server) as socket,
    ):
        return [await socket.turn(input="think"), await socket.turn(input="two steps", tools=[LOOK_UP])]


def at(events: list[Json], kind: str) -> int:
    return next(index for index, event in enumerate(events) if event["type"] == f"response.{kind}")


def renumbered(events: list[Json]) -> list[Json]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


def without(kind: str) -> Callable[[list[Json]], list[Json]]:
    """The event is missing; the numbers have no gap."""
    return lambda events: renumbered([*events[: at(events, kind)], *events[at(events, kind) + 1 :]])


def twice(kind: str) -> Callable[[list[Json]], list[Json]]:
    return lambda events: renumbered(
        [*events[: at(events, kind)], *events[at(events, kind) :][:1], *events[at(events, kind) :]]
    )


def changed(kind: str, path: str, value: Any) -> Callable[[list[Json]], list[Json]]:
    """One value of an event is another; `None` as value takes the key away."""

    def change(events: list[Json]) -> list[Json]:
        events = deepcopy(events)
        place: Any = events[at(events, kind)]
        *steps, last = [int(step) if step.isdigit() else step for step in path.split(".")]
        for step in steps:
            place = place[step]
        if value is _GONE:
            del place[last]
        else:
            place[last] = value
        return events

    return change


_GONE = object()
BREAKAGES: dict[str, Callable[[list[Json]], list[Json]]] = {
    "no beginning": without("created"),
    "no end": without("completed"),
    "two ends": twice("completed"),
    "an item that is not done": without("output_item.done"),
    "an item that was not added": without("output_item.added"),
    "an item added twice": twice("output_item.added"),
    "a part that is not done": without("content_part.done"),
    "a text that is not done": without("output_text.done"),
    "a lost delta": without("output_text.delta"),
    "a gap in the numbers": lambda events: [*events[:3], *events[4:]],
    "an index that is not dense": changed("output_item.added", "output_index", 1),
    "a text other than its deltas": changed("output_text.done", "text", "other"),
    "a part other than its text": changed("content_part.done", "part.text", "other"),
    "another id at the end": changed("completed", "response.output.0.id", "rs_other"),
    "another response at the end": changed("completed", "response.id", "resp_other"),
    "an output that was not streamed": changed("completed", "response.output", []),
    "a key that is missing": changed("in_progress", "response.metadata", _GONE),
    "a number that is null": changed("created", "response.temperature", None),
    "usage without details": changed("completed", "response.usage.input_tokens_details", _GONE),
    "an unknown event": changed("output_item.added", "type", "response.output_item.begun"),
    "a lane on the default lane": changed("in_progress", "stream_id", "a"),
    "text before the end": changed("in_progress", "response.output", [{"type": "message"}]),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_a_broken_stream_is_noticed(breakage: str) -> None:
    thought, _ = await recorded_turns()
    check_response_events(thought)
    broken = BREAKAGES[breakage](thought)
    with pytest.raises((AssertionError, KeyError)):
        check_response_events(broken)
    if breakage not in ("no beginning", "no end"):  # a connection may end at any time
        with pytest.raises((AssertionError, KeyError)):
            check_connection(broken)


async def test_a_call_that_broke_is_noticed() -> None:
    _, called = await recorded_turns()
    for breakage in (
        without("function_call_arguments.delta"),
        changed("output_item.done", "item.arguments", "{}"),
        changed("output_item.done", "item.call_id", "call_other"),
    ):
        with pytest.raises(AssertionError):
            check_response_events(breakage(called))


async def test_raw_reasoning_is_the_contracts_only_under_its_own_names() -> None:
    for setting, is_strict in (("openai", False), ("open_responses", True)):
        thought, _ = await recorded_turns(setting)
        check_response_events(thought)
        unknown = {event["type"] for event in thought if event["type"] not in event_schemas()}
        assert (not unknown) == is_strict
        if is_strict:
            for event in thought:
                check_event_strictly(event)
        else:
            assert unknown <= set(OPENAI_ONLY_EVENTS)


def test_the_exceptions_are_none_that_the_contract_knows() -> None:
    assert not set(OPENAI_ONLY_EVENTS) & set(event_schemas())
    with pytest.raises(AssertionError, match="lacks"):
        check_event({"type": "response.reasoning_text.delta", "sequence_number": 3, "delta": "x"})
    with pytest.raises(AssertionError, match="nobody knows"):
        check_event({"type": "response.dance", "sequence_number": 3})


@pytest.mark.parametrize(
    "request_",
    [
        {"input": [{"type": "message", "role": "user"}]},
        {"input": [{"type": "function_call_output", "output": "x"}]},
        {"temperature": "hot"},
        {"tools": [{"type": "function", "name": "not a name"}]},
        {"reasoning": {"effort": "a lot"}},
    ],
)
def test_a_request_that_breaks_the_contract_is_noticed(request_: Json) -> None:
    for websocket, head in ((False, {}), (True, {"type": "response.create"})):
        check_request({**head, "model": "m", "input": "hi"}, websocket=websocket)
        with pytest.raises(AssertionError):
            check_request({**head, **request_}, websocket=websocket)


def exchange(
    body: bytes, *, status: int = 200, kind: str = "application/json", request: Json | None = None
) -> Exchange:
    sent = json.dumps(request or {"model": "m", "input": "hi"}).encode()
    return Exchange("POST", "/v1/responses", "", {}, sent, status, kind, [body], is_whole=True)


async def test_broken_answers_over_http_are_noticed() -> None:
    thought, _ = await recorded_turns()
    final = thought[-1]["response"]
    check_response(final)
    exchange(json.dumps(final).encode()).check()
    broken = [
        exchange(json.dumps({**final, "usage": {}}).encode()),
        exchange(json.dumps(final).encode(), request={"temperature": "hot"}),
        exchange(b'{"error": {"message": "no"}}', status=400),
        exchange(b"event: response.created\n", kind="text/event-stream"),
        exchange(b"event: response.created\ndata: {}\n\ndata: [DONE]\n\n", kind="text/event-stream"),
    ]
    for one in broken:
        with pytest.raises((AssertionError, KeyError)):
            one.check()
    with pytest.raises(AssertionError):
        sse_events('event: response.created\ndata: {"type": "response.created"}\n\n')  # no [DONE]


async def test_a_broken_event_on_any_connection_fails_the_test_that_saw_it() -> None:
    traffic = RecordedTraffic()
    talk = SocketTalk(
        [(True, b'{"type": "response.create", "input": "hi"}'), (False, b'{"type": "error", "error": {}}')]
    )
    traffic.sockets.append(talk)
    with pytest.raises(AssertionError):
        traffic.check()


@pytest.mark.parametrize("path", ["raw", "asgi"])
async def test_what_crosses_a_test_server_is_recorded(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", path)
    checked: list[RecordedTraffic] = []

    def keep(traffic: RecordedTraffic, *, requests: bool = True) -> None:
        checked.append(traffic)

    monkeypatch.setattr(RecordedTraffic, "check", keep)
    async with live_server(scripted_model()) as server, open_socket(server) as socket:
        events = await socket.turn(input="hello")
    (traffic,) = checked
    (talk,) = traffic.sockets
    assert [json.loads(data) for is_in, data in talk.messages if not is_in] == events
    assert [json.loads(data)["input"] for is_in, data in talk.messages if is_in] == ["hello"]


def test_no_integration_test_has_a_server_that_is_not_recorded() -> None:
    """A server of hotloop's inside a test comes from `live_server`."""
    other = re.compile(r"\b(build_app|build_asgi|run_server|ResponsesDoor)\(")
    found = [str(path) for path in (TESTS / "integration").rglob("*.py") if other.search(path.read_text())]
    assert found == []
