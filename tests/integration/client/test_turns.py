"""What goes over the wire, turn by turn, and what comes of it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.integration.client.agents import PATIENCE_S, Kind, Note, make_agent, make_transport
from tests.integration.client.recorded_wire import (
    Gate,
    RecordedWire,
    Refusal,
    call,
    failed,
    incomplete,
    say,
    shell,
    turn,
)

from hotloop.client import (
    AgentError,
    Call,
    EditTool,
    Invocation,
    Limits,
    RequestRefused,
    ResponseFailed,
    ResponseIncomplete,
    ShellTool,
)
from hotloop.client.contract import DECLINED, TOOLS
from hotloop.client.journal import NOT_RUN, OUTCOME_UNKNOWN
from hotloop.client.progress import CallFinished, Message, Progress, Text

BOTH: list[Kind] = ["ws", "http"]


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def output(call_id: str, text: str) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


async def test_websocket_warms_up_then_sends_only_what_is_new(tmp_path: Path) -> None:
    wire = RecordedWire([turn("resp_1", shell("call_1", "echo hello")), turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), ShellTool(tmp_path), EditTool(tmp_path)) as agent:
        outcome = await asyncio.wait_for(agent.run("say hello"), PATIENCE_S)
    warm_up, first, second = (request.body for request in wire.received)
    assert outcome.text == "done"
    assert (warm_up["generate"], warm_up["input"], warm_up["instructions"]) == (False, [], "Be brief.")
    assert warm_up["tools"] == list(TOOLS)
    assert (first["previous_response_id"], first["input"]) == ("resp_warm", [user("say hello")])
    assert (second["previous_response_id"], second["input"]) == ("resp_1", [output("call_1", "hello")])
    for body in (warm_up, first, second):
        assert body["type"] == "response.create"
        assert body["store"] is False
        assert body["tools"] == list(TOOLS)
        assert "stream" not in body
    assert {request.connection for request in wire.received} == {1}


async def test_http_sends_the_whole_history_on_one_connection(tmp_path: Path) -> None:
    command = shell("call_1", "echo hello")
    wire = RecordedWire([turn("resp_1", say("wait"), command), turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport("http", wire), ShellTool(tmp_path)) as agent:
        await asyncio.wait_for(agent.run("say hello"), PATIENCE_S)
    assert wire.inputs == [
        [user("say hello")],
        [user("say hello"), say("wait"), command, output("call_1", "hello")],
    ]
    for request in wire.received:
        assert request.body["store"] is False
        assert request.body["stream"] is True
        assert "previous_response_id" not in request.body
        assert "type" not in request.body
        assert request.connection == 1


@pytest.mark.parametrize("kind", BOTH)
async def test_a_tool_runs_while_the_response_still_streams(kind: Kind) -> None:
    tool = Note()
    gated = turn("resp_1", call("call_1", "note", {}), before_end=[Gate(tool.started)])
    wire = RecordedWire([gated, turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport(kind, wire), tool) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)  # the server waits for the tool
    assert outcome.status == "finished"


async def test_the_outcome_is_the_same_over_both_transports(tmp_path: Path) -> None:
    outcomes: list[object] = []
    progress: list[Progress] = []
    for kind in BOTH:
        cwd = tmp_path / kind
        cwd.mkdir()
        edit = call("call_2", "edit", {"path": "a.txt", "old": "1", "new": "2"})
        wire = RecordedWire(
            [
                turn("r1", say("looking"), shell("call_1", "echo 1 > a.txt; cat a.txt; false"), usage=(100, 0, 20)),
                turn("r2", edit, usage=(150, 120, 10)),
                [Refusal(429, "rate_limit_exceeded", retry_after="0")],
                turn("r3", say("fixed"), say("and gone"), usage=(170, 160, 5)),
            ]
        )
        async with wire.serving():
            agent = make_agent(make_transport(kind, wire), ShellTool(cwd), EditTool(cwd), on_progress=progress.append)
            async with agent:
                outcome = await asyncio.wait_for(agent.run("fix it"), PATIENCE_S)
        spent = outcome.spent
        outcomes.append(
            (outcome.status, outcome.text, spent.turns, spent.input_tokens, spent.cached_tokens, spent.output_tokens)
        )
        assert (cwd / "a.txt").read_text() == "2\n"
    assert outcomes == [("finished", "fixed\nand gone", 3, 420, 280, 35)] * 2
    states = [event.state for event in progress if isinstance(event, CallFinished)]
    assert states == ["exit 1", "ok"] * 2


@pytest.mark.parametrize("kind", BOTH)
async def test_text_streams_and_adds_up_to_the_message(kind: Kind) -> None:
    progress: list[Progress] = []
    wire = RecordedWire([turn("resp_1", say("a few words"))])
    async with wire.serving(), make_agent(make_transport(kind, wire), on_progress=progress.append) as agent:
        await asyncio.wait_for(agent.run("talk"), PATIENCE_S)
    assert "".join(event.delta for event in progress if isinstance(event, Text)) == "a few words"
    assert progress[-1] == Message("a few words")


async def test_outputs_come_in_the_order_of_the_calls() -> None:
    first_may_end = asyncio.Event()
    slow = Note("slow", release=first_may_end)
    quick = Note("quick", on_run=lambda _: first_may_end.set())  # runs while slow still does
    calls = turn("resp_1", call("call_1", "slow", {}), call("call_2", "quick", {}))
    wire = RecordedWire([calls, turn("resp_2", say("done"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), slow, quick) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert [item["call_id"] for item in wire.inputs[1]] == ["call_1", "call_2"]


async def test_a_tool_that_changes_things_has_the_tools_to_itself() -> None:
    order: list[str] = []
    opened = asyncio.Event()
    next_tick = asyncio.Event()

    def hold_for_a_tick(_: str) -> None:
        order.append("alone")
        asyncio.get_running_loop().call_soon(next_tick.set)

    before = Note("before", release=opened, on_run=lambda _: order.append("before"))
    alone = Note("alone", parallel=False, on_run=hold_for_a_tick, release=next_tick)
    after = Note("after", on_run=lambda _: order.append("after, alone is over" if next_tick.is_set() else "after"))
    calls = [call("call_1", "before", {}), call("call_2", "alone", {}), call("call_3", "after", {})]
    wire = RecordedWire([turn("resp_1", *calls, say("all are called")), turn("resp_2", say("done"))])

    def open_when_all_wait(progress: Progress) -> None:
        if isinstance(progress, Message) and not opened.is_set():
            order.append("all are called")
            opened.set()

    async with wire.serving():
        agent = make_agent(make_transport("ws", wire), before, alone, after, on_progress=open_when_all_wait)
        async with agent:
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert order == ["before", "all are called", "alone", "after, alone is over"]


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (call("call_1", "fly", {}), "error: there is no tool 'fly'; the tools are shell"),
        (call("call_1", "shell", "{not json"), "error: the arguments are not JSON"),
        (call("call_1", "shell", {"cmd": "ls"}), "error: the arguments do not fit"),
        (call("call_1", "shell", {"command": "a\0b"}), "error: the command contains a NUL character"),
        (call("call_1", "shell", {"command": "x" * 3_000_000}), "error: cannot run this command"),
    ],
)
async def test_a_call_that_cannot_be_run_is_answered_and_the_loop_goes_on(
    item: dict[str, Any], told: str, tmp_path: Path
) -> None:
    wire = RecordedWire([turn("resp_1", item), turn("resp_2", say("sorry"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), ShellTool(tmp_path)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.text == "sorry"
    assert wire.inputs[1][0]["output"].startswith(told)


async def test_a_broken_tool_is_told_to_the_model() -> None:
    def explode(_: str) -> None:
        raise ZeroDivisionError("boom")

    wire = RecordedWire([turn("resp_1", call("call_1", "note", {})), turn("resp_2", say("sorry"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), Note(on_run=explode)) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert wire.inputs[1] == [output("call_1", "error: the tool failed: ZeroDivisionError: boom")]


async def test_a_custom_call_of_an_unknown_tool_is_answered_in_kind() -> None:
    custom = {
        "type": "custom_tool_call",
        "id": "ctc_1",
        "call_id": "call_1",
        "name": "exec",
        "input": "x",
        "arguments": "",
    }
    wire = RecordedWire([turn("resp_1", custom), turn("resp_2", say("sorry"))])
    async with wire.serving(), make_agent(make_transport("ws", wire)) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert wire.inputs[1][0]["type"] == "custom_tool_call_output"


async def test_a_declined_call_is_not_run_and_the_model_is_told() -> None:
    asked: list[str] = []

    async def decline(_: Call, invocation: Invocation) -> bool:
        asked.append(invocation.summary)
        return False

    tool = Note()
    wire = RecordedWire([turn("resp_1", call("call_1", "note", {})), turn("resp_2", say("fine"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), tool, approve=decline) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert (asked, tool.notes) == (["note {}"], [])
    assert wire.inputs[1] == [output("call_1", DECLINED)]


async def test_a_call_that_comes_again_is_not_run_again() -> None:
    tool = Note()
    same = call("call_1", "note", {})
    wire = RecordedWire([turn("resp_1", same), turn("resp_2", same), turn("resp_3", say("done"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), tool) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert tool.notes == ["{}"]
    assert wire.inputs[2] == [output("call_1", "noted {}")]


async def test_the_turn_limit_stops_the_run() -> None:
    calls = [turn(f"resp_{n}", call(f"call_{n}", "note", {"n": n})) for n in range(3)]
    wire = RecordedWire([*calls])
    async with wire.serving(), make_agent(make_transport("ws", wire), Note(), limits=Limits(max_turns=3)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert (outcome.status, outcome.spent.turns) == ("max_turns", 3)


async def test_a_model_that_goes_in_circles_is_stopped() -> None:
    tool = Note()
    calls = [turn(f"resp_{n}", call(f"call_{n}", "note", {})) for n in range(3)]
    wire = RecordedWire([*calls, turn("resp_3", say("sorry"))])
    limits = Limits(max_identical_calls=3)
    async with wire.serving(), make_agent(make_transport("ws", wire), tool, limits=limits) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
        again = await asyncio.wait_for(agent.run("go on"), PATIENCE_S)
    assert (outcome.status, tool.notes) == ("repeated_call", ["{}", "{}"])
    assert again.text == "sorry"
    assert wire.inputs[3] == [output("call_2", NOT_RUN), user("go on")]


async def test_output_limit_is_sent() -> None:
    wire = RecordedWire([turn("resp_1", say("ok"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), limits=Limits(max_output_tokens=64)) as agent:
        await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert wire.creates[0].body["max_output_tokens"] == 64


@pytest.mark.parametrize("kind", BOTH)
async def test_engine_seconds_are_added_up_if_the_server_offers_them(kind: Kind) -> None:
    wire = RecordedWire(
        [turn("resp_1", call("call_1", "note", {}), engine_s=0.5), turn("resp_2", say("ok"), engine_s=0.25)],
        warm_up=turn("resp_warm", engine_s=0.125),
    )
    async with wire.serving(), make_agent(make_transport(kind, wire), Note()) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert outcome.spent.engine_s == (0.875 if kind == "ws" else 0.75)
    assert all(request.headers["hotloop-timing"] == "1" for request in wire.received)


async def test_without_timing_the_engine_share_is_unknown() -> None:
    wire = RecordedWire([turn("resp_1", say("ok"))])
    async with wire.serving(), make_agent(make_transport("ws", wire)) as agent:
        outcome = await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert (outcome.spent.engine_s, outcome.spent.other_s) == (None, None)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("answer", "kind_of_error", "code"),
    [
        ([Refusal(400, "model_not_found", "no such model", param="model")], RequestRefused, "model_not_found"),
        ([Refusal(429, "insufficient_quota")], RequestRefused, "insufficient_quota"),
        (failed("resp_1", "context_length_exceeded", "too long"), ResponseFailed, "context_length_exceeded"),
        (incomplete("resp_1", "max_output_tokens"), ResponseIncomplete, "max_output_tokens"),
    ],
)
async def test_what_trying_again_cannot_mend_is_shown_at_once(
    kind: Kind, answer: list[Any], kind_of_error: type[AgentError], code: str
) -> None:
    wire = RecordedWire([answer])
    async with wire.serving(), make_agent(make_transport(kind, wire)) as agent:
        with pytest.raises(kind_of_error) as caught:
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
    assert caught.value.code == code


async def test_a_call_that_was_cut_short_is_not_run() -> None:
    tool = Note()
    half = {**call("call_1", "note", '{"n": 1'), "status": "incomplete"}
    broken = turn("resp_1", half)[:-1]
    wire = RecordedWire([[*broken, *incomplete("resp_1", "max_output_tokens")[2:]], turn("resp_2", say("ok"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), tool) as agent:
        with pytest.raises(ResponseIncomplete):
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
        await asyncio.wait_for(agent.run("and now"), PATIENCE_S)
    assert tool.notes == []
    assert wire.inputs[1] == [user("go"), user("and now")]


async def test_a_failed_turn_stops_its_tools() -> None:
    tool = Note(release=asyncio.Event())  # never ends by itself
    broken = turn("resp_1", call("call_1", "note", {}), before_end=[Gate(tool.started)])[:-1]
    wire = RecordedWire([[*broken, *failed("resp_1", "content_policy_violation")[2:]], turn("resp_2", say("ok"))])
    async with wire.serving(), make_agent(make_transport("ws", wire), tool) as agent:
        with pytest.raises(ResponseFailed):
            await asyncio.wait_for(agent.run("go"), PATIENCE_S)
        await asyncio.wait_for(agent.run("and now"), PATIENCE_S)
    told = [user("go"), call("call_1", "note", {}), output("call_1", OUTCOME_UNKNOWN), user("and now")]
    assert wire.inputs[1] == told


@pytest.mark.parametrize("kind", BOTH)
async def test_events_of_a_cancelled_turn_are_not_taken_for_the_next_ones(kind: Kind) -> None:
    streaming = asyncio.Event()
    never = asyncio.Event()
    wire = RecordedWire([turn("resp_1", say("old"), before_end=[Gate(never)]), turn("resp_2", say("new"))])

    def notice(progress: Progress) -> None:
        if isinstance(progress, Message):
            streaming.set()

    async with wire.serving(), make_agent(make_transport(kind, wire), on_progress=notice) as agent:
        run = asyncio.create_task(agent.run("go"))
        await asyncio.wait_for(streaming.wait(), PATIENCE_S)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        outcome = await asyncio.wait_for(agent.run("and now"), PATIENCE_S)
    assert outcome.text == "new"
    assert wire.inputs[1] == [user("go"), user("and now")]
    assert wire.creates[1].connection != wire.creates[0].connection


@pytest.mark.parametrize("kind", BOTH)
async def test_a_cancelled_run_stops_its_tools_and_can_be_followed_by_another(kind: Kind) -> None:
    tool = Note(release=asyncio.Event())
    wire = RecordedWire([turn("resp_1", call("call_1", "note", {})), turn("resp_2", say("ok"))])
    async with wire.serving(), make_agent(make_transport(kind, wire), tool) as agent:
        run = asyncio.create_task(agent.run("go"))
        await asyncio.wait_for(tool.started.wait(), PATIENCE_S)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert asyncio.all_tasks() & {run} == set()
        outcome = await asyncio.wait_for(agent.run("and now"), PATIENCE_S)
    assert outcome.text == "ok"
    assert wire.inputs[1][-2:] == [output("call_1", OUTCOME_UNKNOWN), user("and now")]
