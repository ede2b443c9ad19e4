"""The server's own loop: calls are run inside a response, on one chain, and wait for consent where they need it."""

import asyncio
import json
from itertools import count

import pytest
from tests.support.hosted import (
    CLIENT_TOOL,
    LOOK_A,
    LOOK_B,
    Held,
    ask,
    both,
    by_results,
    hosted_pipeline,
    kinds,
    look,
    offered,
    prompts,
    result,
    server,
)
from tests.support.toy_format import REPLY, call, say, think

from hotloop.seams.hosted_tools import ToolLimits


async def test_a_call_is_run_and_the_model_goes_on_in_the_same_response() -> None:
    pipeline, servers = hosted_pipeline(by_results(think("hm", LOOK_A), LOOK_B, say("done")))
    response = await ask(pipeline, input="hi")
    assert kinds(response) == ["mcp_list_tools", "reasoning", "mcp_call", "mcp_call", "message"]
    assert [item["output"] for item in response["output"] if item["type"] == "mcp_call"] == ["<a>", "<b>"]
    assert response["status"] == "completed"
    record = pipeline.records.latest()[-1]
    assert (record.rounds, record.fallbacks) == (3, ())
    assert [entry[1:] for entry in record.hosted] == [
        ("list", "completed"),
        ("call", "completed"),
        ("call", "completed"),
    ]
    assert servers.visits == 0, "the servers were left"


async def test_the_time_of_lists_and_calls_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, LOOK_B, say("done")))
    seconds = count()
    monkeypatch.setattr("hotloop.turns.hosted_calls.monotonic", lambda: float(next(seconds)))
    await ask(pipeline, input="hi")
    record = pipeline.records.latest()[-1]
    assert record.hosted_before_s == 1, "the list"
    assert record.hosted_s == 1 + 2, "two rounds had calls"


async def test_a_round_sends_the_engine_what_is_new_in_it() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, LOOK_B, say("done")))
    response = await ask(pipeline, input="hi")
    first, second, third = prompts(pipeline)
    assert second == [*first, *LOOK_A, *result("<a>"), REPLY]
    assert third == [*second, *LOOK_B, *result("<b>"), REPLY]
    # Of the last sampled token no KV is held: it is sent again.
    assert [len(run.new) for run in pipeline.engine.runs[1:]] == [1 + len(result("<a>")) + 1] * 2
    assert len(pipeline.engine.handles) == 1
    usage = response["usage"]
    assert usage["input_tokens"] == sum(map(len, prompts(pipeline)))
    assert usage["output_tokens"] == len(LOOK_A) + len(LOOK_B) + len(say("done"))
    cached = sum(run.keep for run in pipeline.engine.runs)
    assert usage["input_tokens_details"]["cached_tokens"] == cached > 0


@pytest.mark.parametrize("store", [True, False])
async def test_the_next_turn_continues_the_very_tokens_and_lists_nothing_again(store: bool) -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    first = await ask(pipeline, input="hi", store=store)
    before = prompts(pipeline)[-1]
    second = await ask(pipeline, input="go on", previous_response_id=first["id"], store=store)
    assert kinds(second) == ["mcp_call", "message"]
    after = prompts(pipeline)[2]
    assert after[: len(before) + len(say("done"))] == [*before, *say("done")]
    assert pipeline.records.latest()[-1].fallbacks == ()


@pytest.mark.parametrize("reformats", [False, True])
async def test_a_history_that_is_sent_again_is_recognised_with_its_hosted_items(reformats: bool) -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    question = {"role": "user", "content": "hi"}
    first = await ask(pipeline, input=[question], store=False)
    output = first["output"]
    if reformats:  # other key order, null members, no status
        output = [
            {key: item[key] for key in reversed(item) if key != "status"} | {"error": None}
            if item["type"].startswith("mcp")
            else item
            for item in output
        ]
    before = prompts(pipeline)[-1]
    second = await ask(pipeline, input=[question, *output, {"role": "user", "content": "go on"}], store=False)
    assert kinds(second) == ["mcp_call", "message"]
    assert prompts(pipeline)[2][: len(before)] == before
    record = pipeline.records.latest()[-1]
    assert (record.fallbacks, record.recognised_items) == ((), 4)


async def test_a_history_that_nobody_remembers_is_rendered_with_calls_and_outputs() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    first = await ask(pipeline, input="hi", store=False)
    other, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    await ask(other, input=[{"role": "user", "content": "hi"}, *first["output"]], store=False)
    assert prompts(other)[0][:-1] == [*prompts(pipeline)[-1], *say("done")]


async def test_calls_of_one_output_run_at_the_same_time() -> None:
    held = Held()
    pipeline, _ = hosted_pipeline(
        by_results(both(LOOK_A, LOOK_B), say("one"), say("two")), {"files": [offered("look", held)]}
    )
    running = asyncio.create_task(ask(pipeline, input="hi"))
    while held.begun != ["a", "b"]:
        held.has_begun.clear()
        await asyncio.wait_for(held.has_begun.wait(), 60)
    held.go.set()
    response = await running
    assert [item["output"] for item in response["output"] if item["type"] == "mcp_call"] == ["<a>", "<b>"]
    assert response["output"][-1]["content"][0]["text"] == "two"
    first, second = prompts(pipeline)
    assert second == [*first, *both(LOOK_A, LOOK_B), *result("<a>"), *result("<b>"), REPLY]


async def test_no_more_calls_run_at_once_than_is_allowed() -> None:
    held = Held()
    calls = both(*(call("files__look", json.dumps({"key": key})) for key in "abcd"))
    pipeline, _ = hosted_pipeline(
        by_results(calls, say("done")), {"files": [offered("look", held)]}, ToolLimits(parallel_calls=2)
    )
    running = asyncio.create_task(ask(pipeline, input="hi"))
    await asyncio.wait_for(held.has_begun.wait(), 60)
    for _ in range(20):
        await asyncio.sleep(0)
    assert held.begun == ["a", "b"]
    held.go.set()
    await running
    assert held.begun == ["a", "b", "c", "d"]


async def test_with_a_call_of_the_clients_the_response_ends_when_the_hosted_ones_are_done() -> None:
    output = both(LOOK_A, call("run", "{}"))
    pipeline, _ = hosted_pipeline(by_results(output, say("never"), say("done")))
    tools = [server(), CLIENT_TOOL]
    first = await ask(pipeline, input="hi", tools=tools)
    assert kinds(first) == ["mcp_list_tools", "mcp_call", "function_call"]
    assert first["status"] == "completed" and first["output"][1]["output"] == "<a>"
    answer = {"type": "function_call_output", "call_id": first["output"][2]["call_id"], "output": "ran"}
    second = await ask(pipeline, input=[answer], previous_response_id=first["id"], tools=tools)
    assert second["output"][0]["content"][0]["text"] == "done"
    asked = prompts(pipeline)
    assert asked[-1] == [*asked[0], *output, *result("<a>"), *result("ran"), REPLY]
    assert pipeline.records.latest()[-1].fallbacks == ()
    assert first["usage"]["output_tokens"] == len(output)


async def test_a_failed_call_is_told_to_the_model_and_the_turn_goes_on() -> None:
    pipeline, _ = hosted_pipeline(by_results(call("files__fail", "{}"), say("done")))
    response = await ask(pipeline, input="hi")
    item = response["output"][1]
    assert (item["status"], item["output"]) == ("failed", None)
    assert item["error"] == {
        "type": "mcp_tool_execution_error",
        "content": [{"type": "text", "text": "no such key"}],
    }
    assert "<result>Error: no such key<end>" in pipeline.prompt
    assert response["status"] == "completed"


@pytest.mark.parametrize(
    "arguments", ["{", "[]", "7", '{"a":1}}', '{"a":NaN}', '{"a":"\\ud800"}', '{"a":' * 101 + "1" + "}" * 101]
)
async def test_arguments_that_are_no_object_never_reach_the_server(arguments: str) -> None:
    held = Held()
    pipeline, _ = hosted_pipeline(
        by_results(call("files__look", arguments), say("done")), {"files": [offered("look", held)]}
    )
    response = await ask(pipeline, input="hi")
    item = response["output"][1]
    assert (item["arguments"], item["status"]) == (arguments, "failed")
    assert held.begun == []
    assert response["output"][-1]["content"][0]["text"] == "done"


# --- consent ---


async def test_a_call_that_needs_consent_ends_the_response_and_is_run_in_the_next() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    tools = [server(require_approval="always")]
    first = await ask(pipeline, input="hi", tools=tools)
    assert kinds(first) == ["mcp_list_tools", "mcp_approval_request"]
    request = first["output"][1]
    assert (request["name"], request["arguments"], request["server_label"]) == ("look", '{"key":"a"}', "files")
    consent = {"type": "mcp_approval_response", "approval_request_id": request["id"], "approve": True}
    second = await ask(pipeline, input=[consent], previous_response_id=first["id"], tools=tools)
    assert kinds(second) == ["mcp_call", "message"]
    assert (second["output"][0]["output"], second["output"][0]["approval_request_id"]) == ("<a>", request["id"])
    asked = prompts(pipeline)
    assert asked[1] == [*asked[0], *LOOK_A, *result("<a>"), REPLY]
    third = await ask(pipeline, input="on", previous_response_id=second["id"], tools=tools)
    assert prompts(pipeline)[2][: len(asked[1])] == asked[1]
    assert [record.fallbacks for record in pipeline.records.latest()] == [(), (), ()]
    assert kinds(third) == ["mcp_approval_request"]


async def test_a_call_that_is_not_allowed_is_not_run_and_the_model_reads_why() -> None:
    held = Held()
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("sorry")), {"files": [offered("look", held)]})
    tools = [server(require_approval="always")]
    first = await ask(pipeline, input="hi", tools=tools)
    refusal = {
        "type": "mcp_approval_response",
        "approval_request_id": first["output"][1]["id"],
        "approve": False,
        "reason": "not today",
    }
    second = await ask(pipeline, input=[refusal], previous_response_id=first["id"], tools=tools)
    assert kinds(second) == ["message"] and not held.begun
    assert "<result>The user did not allow this call. Reason: not today<end>" in pipeline.prompt


async def test_consent_may_come_with_the_whole_history() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    tools, question = [server(require_approval="always")], {"role": "user", "content": "hi"}
    first = await ask(pipeline, input=[question], tools=tools, store=False)
    consent = {"type": "mcp_approval_response", "approval_request_id": first["output"][1]["id"], "approve": True}
    history = [question, *first["output"], consent]
    second = await ask(pipeline, input=history, tools=tools, store=False)
    assert kinds(second) == ["mcp_call", "message"]
    again = [*history, *second["output"], {"role": "user", "content": "on"}]
    other, _ = hosted_pipeline(by_results(say("fine")))
    assert kinds(await ask(other, input=again, tools=tools, store=False)) == ["message"], "nothing is run twice"
    assert prompts(other)[0][: len(prompts(pipeline)[-1])] == prompts(pipeline)[-1]


async def test_consent_to_nothing_is_refused_and_the_chain_is_intact() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    tools = [server(require_approval="always")]
    first = await ask(pipeline, input="hi", tools=tools)
    consent = {"type": "mcp_approval_response", "approval_request_id": "mcpr_unknown", "approve": True}
    outcome = await pipeline.run(input=[consent], previous_response_id=first["id"], tools=tools)
    assert outcome.is_refused and outcome.error is not None and outcome.error.param == "input"
    after = await ask(pipeline, input="never mind", previous_response_id=first["id"], tools=tools)
    assert after["status"] == "completed"


async def test_consent_to_a_call_of_a_server_that_is_no_longer_named_is_a_failed_call() -> None:
    pipeline, _ = hosted_pipeline(
        by_results(LOOK_A, say("done")), {"files": [offered("look", look)], "wiki": [offered("look", look)]}
    )
    first = await ask(pipeline, input="hi", tools=[server(require_approval="always")])
    consent = {"type": "mcp_approval_response", "approval_request_id": first["output"][1]["id"], "approve": True}
    second = await ask(pipeline, input=[consent], previous_response_id=first["id"], tools=[server("wiki")])
    failed = next(item for item in second["output"] if item["type"] == "mcp_call")
    assert failed["status"] == "failed" and "names no server 'files'" in failed["error"]["message"]


async def test_calls_with_and_without_consent_in_one_output() -> None:
    output = both(LOOK_A, call("files__fail", "{}"))
    pipeline, _ = hosted_pipeline(by_results(output, say("never"), say("done")))
    tools = [server(require_approval={"never": {"tool_names": ["look"]}})]
    first = await ask(pipeline, input="hi", tools=tools)
    assert kinds(first) == ["mcp_list_tools", "mcp_call", "mcp_approval_request"]
    consent = {"type": "mcp_approval_response", "approval_request_id": first["output"][2]["id"], "approve": True}
    second = await ask(pipeline, input=[consent], previous_response_id=first["id"], tools=tools)
    assert kinds(second) == ["mcp_call", "message"]
    asked = prompts(pipeline)
    assert asked[-1] == [*asked[0], *output, *result("<a>"), *result("Error: no such key"), REPLY]
