import json
from typing import Any

import msgspec
import pytest

from hotloop.errors import InvalidJson, ServerFault
from hotloop.protocol.actions import Action, EvictResponse, Say, SendError, SendEvent, StartTurn, SteerTurn
from hotloop.protocol.connection import Connection, Limits, TurnEnd
from hotloop.protocol.hosted_items import request_item
from hotloop.protocol.items import CustomToolCall, FunctionCall, OwedItem
from hotloop.protocol.request import ResponseCreate, decode_create
from hotloop.protocol.response import IncompleteReason, ResponseEnding
from hotloop.protocol.steering import Steer, decode_steer, is_steerable, may_stop_after, with_steers

CALL = FunctionCall(call_id="call_1", name="run", arguments="{}", status="completed")
CUSTOM = CustomToolCall(call_id="call_2", name="write", input="x", status="completed")


def steer(text: str = "stop", target: str = "resp_1") -> Steer:
    return decode_steer(json.dumps({"previous_response_id": target, "input": text}).encode())


def completed(*calls: OwedItem) -> TurnEnd:
    return TurnEnd(None, ResponseEnding("completed", None, calls, 12))


def incomplete(reason: IncompleteReason) -> TurnEnd:
    return TurnEnd(None, ResponseEnding("incomplete", reason, (), 12))


FAILED = TurnEnd(ServerFault("It broke."), ResponseEnding("failed", None, (), 12))


class Line:
    """A connection with a response `resp_1` running on a lane."""

    def __init__(self, lane: str | None = "a", request: ResponseCreate | None = None, **limits: Any) -> None:
        self.core: Connection[str] = Connection(Limits(**limits))
        self.lane = lane
        (start,) = self.core.receive(request or create("hello"), lane, "first", 10)
        assert isinstance(start, StartTurn)
        self.turn = start.turn
        self.core.created(self.turn, "resp_1")

    def steer(self, text: str = "stop", target: str = "resp_1", steer_id: str = "steer_1") -> list[Action[str]]:
        return self.core.steer(steer(text, target), steer_id)


def create(text: Any = None, parent: str | None = None, **fields: Any) -> ResponseCreate:
    body: dict[str, Any] = {"model": "m", "previous_response_id": parent, "input": text or [], **fields}
    return decode_create(json.dumps(body).encode())


def events(actions: list[Action[str]]) -> list[dict[str, Any]]:
    return [json.loads(action.event) for action in actions if isinstance(action, SendEvent)]


def said(action: Action[str]) -> tuple[str, dict[str, Any]]:
    assert isinstance(action, Say)
    return action.kind.decode(), json.loads(b"{" + action.fields[1:] + b"}")


def codes(actions: list[Action[str]]) -> list[str]:
    return [event["error"]["code"] for event in events(actions)] + [
        said(action)[1]["error"]["code"]
        for action in actions
        if isinstance(action, Say) and action.kind == b"response.steer.failed"
    ]


def texts(request: ResponseCreate) -> list[Any]:
    return [item.get("content") for item in msgspec.json.decode(request.input)]


# --- what is accepted ---


def test_a_steer_of_a_running_response_is_accepted_and_stops_it() -> None:
    line = Line()
    accepted, stop = line.steer()
    assert said(accepted) == (
        "response.steer.accepted",
        {"steer": {"id": "steer_1", "previous_response_id": "resp_1"}},
    )
    assert stop == SteerTurn(line.turn)
    assert line.core.pending_steers == 1


@pytest.mark.parametrize(
    "value",
    [
        [],
        7,
        None,
        [{"role": "assistant", "content": "x"}],
        [{"type": "function_call_output", "call_id": "c", "output": "x"}],
        [{"role": "user", "content": "x", "id": "msg_1"}],
        [{"role": "user", "content": []}],
        [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}],
        [{"role": "user"}],
    ],
)
def test_input_that_is_not_user_messages_comes_back(value: Any) -> None:
    line = Line()
    event = decode_steer(json.dumps({"previous_response_id": "resp_1", "input": value}).encode())
    (failed,) = line.core.steer(event, "steer_1")
    kind, fields = said(failed)
    assert kind == "response.steer.failed"
    assert fields["steer"] == {"previous_response_id": "resp_1", "input": value}
    assert fields["error"]["code"] == "invalid_input"
    assert line.core.pending_steers == 0


@pytest.mark.parametrize(
    "content", ["x", [{"type": "input_text", "text": "x"}, {"type": "input_image", "image_url": "data:"}]]
)
def test_messages_of_the_user_are_accepted(content: Any) -> None:
    found = decode_steer(
        json.dumps({"previous_response_id": "r", "input": [{"role": "user", "content": content}]}).encode()
    )
    assert not found.problem
    assert json.loads(b"".join(found.messages)) == {"role": "user", "content": content}


@pytest.mark.parametrize("target", [None, 7, ""])
def test_a_steer_without_a_target_fails_by_its_own_event(target: Any) -> None:
    line = Line()
    found = decode_steer(json.dumps({"previous_response_id": target, "input": "x"}).encode())
    (failed,) = events(line.core.steer(found, "steer_1"))
    assert failed["steer"] == {"previous_response_id": "", "input": "x"}
    assert failed["error"]["code"] == ("invalid_input" if target != "" else "response_not_found")


def test_a_steer_that_is_no_json_is_an_error() -> None:
    with pytest.raises(InvalidJson):
        decode_steer(b'{"input":')


def test_an_unknown_response_is_not_found() -> None:
    (failed,) = events(Line().steer(target="resp_gone"))
    assert (failed["sequence_number"], failed["error"]["code"]) == (0, "response_not_found")
    assert "stream_id" not in failed


@pytest.mark.parametrize("fields", [{"generate": False}, {"context_management": [{"type": "compaction"}]}])
def test_what_cannot_be_steered_says_so(fields: dict[str, Any]) -> None:
    request = create("hello", **fields)
    assert not is_steerable(request)
    assert codes(Line(request=request).steer()) == ["steering_not_supported"]


def test_pending_steers_are_bounded_in_number_and_bytes() -> None:
    line = Line(steers=2)
    line.steer()
    line.steer()
    assert codes(line.steer()) == ["too_many_pending_steers"]
    assert codes(Line(held_bytes=100).steer("x" * 100)) == ["too_many_pending_steers"]


def test_a_response_that_has_ended_is_told_apart_by_how() -> None:
    line = Line()
    line.core.turn_over(line.turn, completed())
    assert codes(line.steer()) == ["response_already_completed"]
    line = Line()
    line.core.turn_over(line.turn, incomplete("max_output_tokens"))
    assert codes(line.steer()) == ["response_not_active"]


def test_a_connection_that_winds_down_takes_no_more_steers_and_keeps_those_it_has() -> None:
    line = Line()
    line.steer()
    line.core.drain()
    assert codes(line.steer()) == ["successor_creation_failed"]
    (start,) = line.core.turn_over(line.turn, incomplete("steered"))
    assert isinstance(start, StartTurn)


# --- what becomes of it ---


@pytest.mark.parametrize("end", [completed(), incomplete("steered"), incomplete("max_output_tokens")])
def test_the_successor_takes_the_lane_before_what_waits(end: TurnEnd) -> None:
    line = Line(request=create("hello", temperature=0.5, instructions="Be brief.", store=False))
    line.core.receive(create("next"), "a", "waits")
    line.steer("one")
    line.steer("two", steer_id="steer_2")
    (start,) = line.core.turn_over(line.turn, end)
    assert isinstance(start, StartTurn)
    assert (start.lane, start.bound) == ("a", None)
    assert start.request.previous_response_id == "resp_1"
    assert (start.request.temperature, start.request.instructions, start.request.store) == (0.5, "Be brief.", False)
    assert texts(start.request) == ["one", "two"]
    assert line.core.pending_steers == line.core.held_bytes == 0
    line.core.created(start.turn, "resp_2")
    (waited,) = line.core.turn_over(start.turn, completed())
    assert isinstance(waited, StartTurn)
    assert waited.bound == "waits"


def test_a_successor_can_be_steered_and_has_a_successor() -> None:
    line = Line()
    line.steer("one")
    (start,) = line.core.turn_over(line.turn, incomplete("steered"))
    assert isinstance(start, StartTurn)
    assert line.core.created(start.turn, "resp_2") == []
    assert codes(line.steer("late")) == ["response_not_active"], "the newest response is the one to steer"
    line.steer("two", target="resp_2")
    (second,) = line.core.turn_over(start.turn, incomplete("steered"))
    assert isinstance(second, StartTurn)
    assert second.request.previous_response_id == "resp_2"
    assert texts(second.request) == ["two"]


def test_a_steer_between_a_response_and_its_successor_steers_the_successor() -> None:
    line = Line()
    line.steer("one")
    (start,) = line.core.turn_over(line.turn, incomplete("steered"))
    assert isinstance(start, StartTurn)
    (accepted,) = events(line.steer("two"))
    assert (accepted["type"], accepted["sequence_number"]) == ("response.steer.accepted", 12)
    assert line.core.created(start.turn, "resp_2") == [SteerTurn(start.turn)]
    (second,) = line.core.turn_over(start.turn, incomplete("steered"))
    assert isinstance(second, StartTurn)
    assert texts(second.request) == ["two"]


@pytest.mark.parametrize("is_admitted", [True, False])
def test_a_fork_beside_the_successor_does_not_hide_it(is_admitted: bool) -> None:
    line = Line()
    line.steer("one")
    line.core.receive(create("fork", "resp_1"), "b", "fork", 10)
    starts = [
        action for action in line.core.turn_over(line.turn, incomplete("steered")) if isinstance(action, StartTurn)
    ]
    successor, fork = starts
    if is_admitted:
        line.core.created(fork.turn, "resp_3")
    else:
        line.core.turn_over(fork.turn, TurnEnd(ServerFault("It broke.")))
    (accepted,) = events(line.steer("two"))
    assert accepted["type"] == "response.steer.accepted"
    assert line.core.created(successor.turn, "resp_2") == [SteerTurn(successor.turn)]


def test_calls_make_the_steers_wait_for_their_outputs() -> None:
    line = Line()
    line.steer("one")
    line.steer("two", steer_id="steer_2")
    first, second = events(line.core.turn_over(line.turn, completed(CALL, CUSTOM)))
    assert [first["sequence_number"], second["sequence_number"]] == [12, 13]
    assert first == {
        "type": "response.steer.pending",
        "sequence_number": 12,
        "stream_id": "a",
        "steer": {"id": "steer_1", "previous_response_id": "resp_1"},
        "reason": "waiting_for_required_input",
        "required_input": [
            {"type": "function_call_output", "call_id": "call_1", "name": "run"},
            {"type": "custom_tool_call_output", "call_id": "call_2"},
        ],
    }
    output = [{"type": "function_call_output", "call_id": "call_1", "output": "ok", "content": "the output"}]
    (start,) = line.core.receive(create(output, "resp_1", temperature=0.25), "a", "mine")
    assert isinstance(start, StartTurn)
    assert start.bound == "mine"
    assert start.request.temperature == 0.25
    assert texts(start.request) == ["one", "two", "the output"]
    assert line.core.pending_steers == 0


def test_a_call_that_waits_for_consent_makes_the_steers_wait() -> None:
    line = Line()
    line.steer("one")
    asked = request_item(item_id="mcpr_1", label="s", name="t", arguments="{}")
    (pending,) = events(line.core.turn_over(line.turn, completed(asked)))
    assert pending["required_input"] == [{"type": "mcp_approval_response", "approval_request_id": "mcpr_1"}]
    assert not may_stop_after([asked])


def test_a_fork_to_another_lane_leaves_the_steers() -> None:
    line = Line()
    line.steer("one")
    line.core.turn_over(line.turn, completed(CALL))
    (fork,) = line.core.receive(create("x", "resp_1"), "b", "fork")
    assert isinstance(fork, StartTurn)
    assert bytes(fork.request.input) == b'"x"'
    (start,) = line.core.receive(create("x", "resp_1"), "a", "mine")
    assert isinstance(start, StartTurn)
    assert texts(start.request) == ["one", "x"]


def test_a_continuation_that_is_here_already_needs_no_pending_event() -> None:
    line = Line()
    line.steer("one")
    line.core.receive(create("mine", "resp_1"), "a", "mine")
    actions = line.core.turn_over(line.turn, completed(CALL))
    assert events(actions) == []
    start = actions[-1]
    assert isinstance(start, StartTurn)
    assert texts(start.request) == ["one", "mine"]


def test_a_response_that_waits_for_outputs_can_be_steered_until_they_come() -> None:
    line = Line()
    line.core.turn_over(line.turn, completed(CALL))
    accepted, pending = events(line.steer("one"))
    assert (accepted["type"], pending["type"]) == ("response.steer.accepted", "response.steer.pending")
    assert [accepted["sequence_number"], pending["sequence_number"]] == [12, 13]
    line.core.receive(create("x", "resp_1"), "a", "mine")
    assert codes(line.steer("two")) == ["response_already_completed"]


@pytest.mark.parametrize(
    ("end", "code"), [(FAILED, "successor_creation_failed"), (incomplete("interrupted"), "response_not_active")]
)
def test_a_response_that_comes_to_nothing_returns_its_steers(end: TurnEnd, code: str) -> None:
    line = Line()
    line.steer("one")
    actions = line.core.turn_over(line.turn, end)
    (failed,) = events(actions)
    assert failed["steer"] == {"id": "steer_1", "previous_response_id": "resp_1", "input": "one"}
    assert (failed["error"]["code"], failed["sequence_number"], failed["stream_id"]) == (code, 12, "a")
    assert line.core.pending_steers == line.core.held_bytes == 0
    assert line.core.running == 0


def test_a_successor_that_is_refused_returns_the_steers_and_nothing_else_happens() -> None:
    line = Line()
    line.steer("one")
    (start,) = line.core.turn_over(line.turn, completed())
    assert isinstance(start, StartTurn)
    line.steer("two", steer_id="steer_2")
    actions = line.core.turn_over(start.turn, TurnEnd(ServerFault("The model is gone.")))
    assert codes(actions) == ["successor_creation_failed"] * 2
    assert not any(isinstance(action, SendError | EvictResponse) for action in actions), "nobody asked for it"
    assert line.core.pending_steers == 0


def test_a_continuation_that_is_refused_returns_the_steers_that_it_carried() -> None:
    line = Line()
    line.steer("one")
    line.core.turn_over(line.turn, completed(CALL))
    (start,) = line.core.receive(create("x", "resp_1"), "a", "mine")
    assert isinstance(start, StartTurn)
    actions = line.core.turn_over(start.turn, TurnEnd(ServerFault("No output.")))
    assert [type(action) for action in actions] == [SendError, SendEvent, EvictResponse]
    assert codes(actions) == ["successor_creation_failed"]


def test_steers_die_with_the_connection() -> None:
    line = Line()
    line.steer("one")
    line.core.abandon()
    assert line.core.pending_steers == line.core.held_bytes == 0
    assert line.core.turn_over(line.turn, completed()) == []


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('"mine"', ["one", "mine"]),
        ('[{"content":"mine"}]', ["one", "mine"]),
        ("[]", ["one"]),
        ("[ ]", ["one"]),
        ("null", ["one"]),
    ],
)
def test_steers_go_before_whatever_input_there_is(raw: str, expected: list[str]) -> None:
    request = ResponseCreate(model="m", input=msgspec.Raw(raw.encode()))
    assert texts(with_steers(request, [steer("one")])) == expected


def test_an_input_of_a_wrong_type_is_left_to_be_refused() -> None:
    request = ResponseCreate(model="m", input=msgspec.Raw(b"7"))
    assert with_steers(request, [steer("one")]) is request
