"""What bounds the server's own loop, and what a response may choose and be offered in it."""

from typing import Any

import pytest
from tests.support.event_order import check_response_events
from tests.support.hosted import (
    CLIENT_TOOL,
    LOOK_A,
    LOOK_B,
    Held,
    ask,
    both,
    by_results,
    fail,
    hosted_pipeline,
    kinds,
    look,
    offered,
    prompts,
    server,
)
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import RESULT, call, say
from tests.support.turns import ME, Pipeline, RecordingSink, body, create

from hotloop.seams.hosted_tools import ToolLimits
from hotloop.turns.count import count_tokens


async def test_max_tool_calls_bounds_the_calls_that_are_run_here() -> None:
    held = Held()
    held.go.set()
    pipeline, _ = hosted_pipeline(
        by_results(both(LOOK_A, LOOK_B), say("one"), say("two")), {"files": [offered("look", held)]}
    )
    response = await ask(pipeline, input="hi", max_tool_calls=1)
    done, ignored = response["output"][1:3]
    assert (done["output"], ignored["status"]) == ("<a>", "failed")
    assert "max_tool_calls" in ignored["error"]["message"]
    assert held.begun == ["a"]
    assert pipeline.engine.runs[-1].turn.rules.choice == "none"
    # The client's calls do not count.
    other, _ = hosted_pipeline(by_results(both(call("run", "{}"), call("run", "{}"))))
    counted = await ask(other, input="hi", max_tool_calls=1, tools=[CLIENT_TOOL])
    assert kinds(counted) == ["function_call", "function_call"]


async def test_a_model_that_calls_for_ever_is_left_to_answer() -> None:
    def reply(prompt: list[int]) -> list[int]:
        return LOOK_A if prompt.count(RESULT) < 3 else say("enough")

    pipeline, _ = hosted_pipeline(ToyEngine(reply), limits=ToolLimits(max_rounds=4))
    response = await ask(pipeline, input="hi", tools=[server(), CLIENT_TOOL])
    assert response["output"][-1]["content"][0]["text"] == "enough"
    rules = [run.turn.rules for run in pipeline.engine.runs]
    assert [rule.allowed for rule in rules] == [None, None, None, {"run"}]


async def test_max_output_tokens_counts_all_rounds() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("a long answer")))
    response = await ask(pipeline, input="hi", max_output_tokens=len(LOOK_A) + 4)
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["usage"]["output_tokens"] == len(LOOK_A) + 4
    spent, _ = hosted_pipeline(by_results(LOOK_A, say("a long answer")))
    response = await ask(spent, input="hi", max_output_tokens=len(LOOK_A))
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert kinds(response) == ["mcp_list_tools", "mcp_call"]
    after = await ask(spent, input="on", previous_response_id=response["id"])
    assert after["status"] == "completed" and spent.records.latest()[-1].fallbacks == ()


async def test_a_whole_call_of_an_output_that_was_cut_is_not_run() -> None:
    held = Held()
    output = both(LOOK_A, LOOK_B)
    pipeline, _ = hosted_pipeline(by_results(output, say("done")), {"files": [offered("look", held)]})
    response = await ask(pipeline, input="hi", max_output_tokens=len(output) - 3)
    assert [item["status"] for item in response["output"][1:]] == ["incomplete", "incomplete"]
    assert not held.begun


async def test_a_round_that_no_longer_fits_the_context_fails_with_its_code() -> None:
    async def huge(arguments: object) -> str:
        return "x" * 5000

    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")), {"files": [offered("look", huge)]})
    response = await ask(pipeline, input="hi")
    assert response["error"]["code"] == "context_length_exceeded"
    assert response["output"][1]["status"] == "completed"


@pytest.mark.parametrize(
    ("choice", "first"),
    [
        ("required", ("required", None)),
        ({"type": "mcp", "server_label": "files", "name": "look"}, ("named", {"files__look"})),
        ({"type": "mcp", "server_label": "files"}, ("required", {"files__look", "files__fail"})),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "mcp", "server_label": "files", "name": "look"}],
            },
            ("named", {"files__look"}),
        ),
    ],
)
async def test_a_choice_holds_for_the_first_round_alone(choice: Any, first: tuple[str, Any]) -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    response = await ask(pipeline, input="hi", tool_choice=choice)
    assert response["output"][-1]["type"] == "message"
    rules = [run.turn.rules for run in pipeline.engine.runs]
    assert (rules[0].choice, rules[0].allowed) == first
    assert rules[1].choice == "auto"


@pytest.mark.parametrize(
    "choice", [{"type": "mcp", "server_label": "wiki"}, {"type": "function", "name": "look"}, {"type": "mcp"}]
)
async def test_a_choice_of_what_is_not_offered_is_refused_at_once(choice: Any) -> None:
    pipeline, servers = hosted_pipeline(by_results(say("done")))
    outcome = await pipeline.run(input="hi", tool_choice=choice, tools=[server()])
    assert outcome.is_refused and outcome.error is not None and outcome.error.param == "tool_choice"
    assert servers.visits == 0


async def test_a_choice_of_a_tool_that_its_server_does_not_have_fails_the_response() -> None:
    pipeline, _ = hosted_pipeline(by_results(say("done")))
    response = await ask(pipeline, input="hi", tool_choice={"type": "mcp", "server_label": "files", "name": "write"})
    assert response["status"] == "failed" and response["error"]["param"] == "tool_choice"


async def test_a_server_that_cannot_be_reached_is_a_failed_list_and_is_asked_again_next_time() -> None:
    pipeline, servers = hosted_pipeline(
        by_results(say("one"), say("two")), {"files": [], "wiki": [offered("look", look)]}
    )
    tools = [server(), server("wiki")]
    first = await ask(pipeline, input="hi", tools=tools)
    assert kinds(first) == ["mcp_list_tools", "mcp_list_tools", "message"]
    assert first["output"][0]["error"] == "The tools of 'files' could not be listed: the server cannot be reached."
    assert "error" not in first["output"][1]
    servers._servers = {"files": [offered("look", look)], "wiki": []}  # it is back
    second = await ask(pipeline, input="on", previous_response_id=first["id"], tools=tools)
    assert kinds(second) == ["mcp_list_tools", "message"]
    assert pipeline.records.latest()[-1].fallbacks == ("context_changed",)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ([], "no object"),
        ({"type": "string"}, "not 'object'"),
        ({"type": "object", "properties": {"a": {"type": "whatever"}}}, "names a type that is none"),
        ({"type": "object", "properties": []}, "'properties'"),
        ({"type": "object", "properties": {"a": 7}}, "no schema"),
        ({"type": "object", "anyOf": {}}, "'anyOf'"),
    ],
)
async def test_a_schema_that_is_none_fails_its_list_and_the_turn_goes_on(schema: Any, words: str) -> None:
    tools = [offered("look", look), offered("odd", look, schema=schema)]
    pipeline, _ = hosted_pipeline(by_results(say("done")), {"files": tools})
    response = await ask(pipeline, input="hi")
    assert words in response["output"][0]["error"] and response["output"][0]["tools"] == []
    assert response["status"] == "completed"


async def test_a_schema_that_is_too_deep_says_so_by_its_code() -> None:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(100):
        schema = {"type": "object", "properties": {"a": schema}}
    pipeline, _ = hosted_pipeline(by_results(say("done")), {"files": [offered("look", look, schema=schema)]})
    response = await ask(pipeline, input="hi")
    assert "schema_too_complex" in response["output"][0]["error"] and response["status"] == "completed"


async def test_tools_have_names_that_no_other_tool_has() -> None:
    tools = [offered("look", look), offered("look/at", fail), offered("look.at", look)]
    pipeline, _ = hosted_pipeline(by_results(call("files__look_2", '{"key":"a"}'), say("done")), {"files": tools})
    mine = {"type": "function", "name": "files__look", "parameters": {"type": "object"}}
    response = await ask(pipeline, input="hi", tools=[server(), mine])
    assert response["output"][1]["name"] == "look" and response["output"][1]["output"] == "<a>"
    offer = pipeline.engine.runs[0].turn.context.tools
    names = [getattr(tool, "name", "") for tool in offer]
    assert names == ["files__look", "files__look_2", "files__look_at", "files__look_at_2"]


async def test_only_the_tools_that_a_request_allows_are_offered() -> None:
    tools = [offered("look", look, annotations={"readOnlyHint": True}), offered("write", look)]
    for allowed, expected in ((["write"], ["files__write"]), ({"read_only": True}, ["files__look"]), ([], [])):
        pipeline, _ = hosted_pipeline(by_results(say("done")), {"files": tools})
        await ask(pipeline, input="hi", tools=[server(allowed_tools=allowed)])
        assert [getattr(tool, "name", "") for tool in pipeline.engine.runs[0].turn.context.tools] == expected


async def test_a_warm_up_lists_and_the_turn_behind_it_does_not() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    warm = await ask(pipeline, input=[], generate=False)
    assert kinds(warm) == ["mcp_list_tools"]
    first = await ask(pipeline, input="hi", previous_response_id=warm["id"])
    assert kinds(first) == ["mcp_call", "message"]
    assert [record.fallbacks for record in pipeline.records.latest()] == [(), ()]


async def test_credentials_are_kept_nowhere() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    given = server(authorization="s3cret", headers={"X-Key": "s3cret"})
    sink = RecordingSink()
    outcome = await pipeline.run(sink, input="hi", tools=[given])
    assert b"s3cret" not in b"".join(sink.sent) + outcome.body
    contexts = pipeline.services.contexts
    assert "s3cret" not in repr(contexts._values)
    # A token that was renewed continues the same tokens.
    renewed = server(authorization="another", headers={"X-Key": "another"})
    await ask(pipeline, input="on", previous_response_id=body(outcome)["id"], tools=[renewed])
    assert pipeline.records.latest()[-1].fallbacks == ()


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([server(), server()], "tools[1].server_label"),
        ([server("nobody")], "tools[0].server_label"),
        ([server(server_url="https://x.example")], "tools[0].server_label"),
    ],
)
async def test_a_server_that_may_not_be_used_is_refused_before_the_response(tools: Any, param: str) -> None:
    pipeline, _ = hosted_pipeline(by_results(say("done")))
    outcome = await pipeline.run(input="hi", tools=tools)
    assert outcome.is_refused and outcome.error is not None and outcome.error.param == param


async def test_without_tool_servers_an_mcp_tool_is_refused() -> None:
    outcome = await Pipeline().run(input="hi", tools=[server(server_url="https://x.example")])
    assert outcome.is_refused and outcome.error is not None
    assert (outcome.error.code, outcome.error.param) == ("unsupported_value", "tools[0]")


async def test_a_server_that_an_item_brings_is_not_used_and_its_secrets_are_not_kept() -> None:
    pipeline, servers = hosted_pipeline(by_results(say("done")))
    secrets: dict[str, Any] = {
        "authorization": "s3cret",
        "headers": {"a": "s3cret"},
        "server_url": "https://x.example/s3cret",
    }
    space = {"type": "namespace", "name": "n", "tools": [server(**secrets)]}
    item = {"type": "additional_tools", "role": "developer", "tools": [server(**secrets), space]}
    response = await ask(pipeline, input=[item, {"role": "user", "content": "hi"}], tools=[])
    assert kinds(response) == ["message"] and servers.visits == 0
    stored = await pipeline.store.get(ME, response["id"])
    assert stored is not None and "s3cret" not in repr(list(stored.items))
    assert "s3cret" not in repr(pipeline.services.contexts._values)


async def test_a_list_that_the_policy_blocks_is_a_failed_one() -> None:
    tools = [offered("forbidden", look)]
    pipeline, _ = hosted_pipeline(by_results(say("done")), {"files": tools}, block={"rule": "forbidden"})
    response = await ask(pipeline, input="hi")
    assert "policy" in response["output"][0]["error"] and response["output"][0]["tools"] == []
    assert response["status"] == "completed"
    assert pipeline.records.latest()[-1].findings == ["rule"]


async def test_an_output_that_the_policy_blocks_fails_the_response_and_leaves_nowhere() -> None:
    async def leak(arguments: object) -> str:
        return "the forbidden word"

    pipeline, servers = hosted_pipeline(
        by_results(LOOK_A, say("done")), {"files": [offered("look", leak)]}, block={"rule": "forbidden"}
    )
    sink = RecordingSink()
    outcome = await pipeline.run(sink, input="hi", tools=[server()])
    response = check_response_events(sink.events)
    assert response["error"]["code"] == "content_policy_violation"
    assert b"forbidden" not in b"".join(sink.sent) + outcome.body
    assert pipeline.records.latest()[-1].findings == ["rule"]
    assert servers.visits == 0


async def test_a_compaction_keeps_the_lists_and_may_stand_beside_one() -> None:
    def reply(prompt: list[int]) -> list[int]:
        text = "".join(chr(token) for token in prompt if token < 0x110000)
        if text.endswith("write the summary only."):
            return say("sum")
        return say("done") if RESULT in prompt else LOOK_A

    pipeline, _ = hosted_pipeline(ToyEngine(reply))
    management = [{"type": "compaction", "compact_threshold": 400}]
    first = await ask(pipeline, input="a" * 500, context_management=management)
    assert kinds(first) == ["mcp_list_tools", "compaction", "mcp_call", "message"]
    second = await ask(pipeline, input="b" * 500, previous_response_id=first["id"], context_management=management)
    assert kinds(second) == ["compaction", "mcp_call", "message"]
    third = await ask(pipeline, input="on", previous_response_id=second["id"])
    assert kinds(third) == ["message"]
    assert pipeline.records.latest()[-1].fallbacks == ()
    names = {getattr(tool, "name", "") for tool in pipeline.engine.runs[-1].turn.context.tools}
    assert names == {"files__look", "files__fail"}


async def test_a_compaction_that_is_asked_for_lists_nothing() -> None:
    pipeline, servers = hosted_pipeline(by_results(say("sum")))
    response = await ask(pipeline, input=[{"role": "user", "content": "hi"}, {"type": "compaction_trigger"}])
    assert kinds(response) == ["compaction"] and servers.visits == 0


async def test_tokens_are_counted_with_the_tools_that_the_chain_knows() -> None:
    pipeline, _ = hosted_pipeline(by_results(LOOK_A, say("done")))
    first = await ask(pipeline, input="hi")
    fields = {"input": "on", "previous_response_id": first["id"], "tools": [server()]}
    counted = await count_tokens(pipeline.services, ME, create(**fields))
    second = await ask(pipeline, **fields)
    assert counted == len(prompts(pipeline)[2])
    assert second["status"] == "completed"
