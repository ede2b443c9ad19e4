"""Every kind of tool and item that agents send, over both transports: offered, called, answered, sent again."""

import json
from typing import Any

import httpx
import pytest
from tests.support.doors import TRANSPORTS, Ask, Json, door
from tests.support.live_server import open_socket
from tests.support.scripted_model import scripted_model

LOCAL_SHELL = {"type": "local_shell"}
SHELL = {"type": "shell", "environment": {"type": "local"}}
APPLY_PATCH = {"type": "apply_patch"}
EXEC = {"type": "custom", "name": "exec", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}}
SPAWN = {"type": "function", "name": "spawn", "parameters": {"type": "object"}}
FUNCTIONS = {"type": "namespace", "name": "functions", "description": "own", "tools": [EXEC]}
COLLABORATION = {"type": "namespace", "name": "collaboration", "description": "others", "tools": [SPAWN]}
SEARCH = {"type": "tool_search", "execution": "client", "description": "Find tools."}
DEFERRED = {"type": "function", "name": "rare", "parameters": {"type": "object"}, "defer_loading": True}
WEB = {"type": "web_search", "external_web_access": False}

PATCH = {"type": "update_file", "path": "a.py", "diff": "@@\n-a\n+b\n"}
SCRIPT: list[Json] = [
    {
        "match": "^local",
        "turns": [{"call": {"name": "local_shell", "arguments": {"command": ["ls"]}}}, {"text": "done: local"}],
    },
    {
        "match": "^shell",
        "turns": [{"call": {"name": "shell", "arguments": {"commands": ["ls"]}}}, {"text": "done: shell"}],
    },
    {"match": "^patch", "turns": [{"call": {"name": "apply_patch", "arguments": PATCH}}, {"text": "done: patch"}]},
    {"match": "^exec", "turns": [{"call": {"name": "exec", "input": "ls"}}, {"text": "done: exec"}]},
    {
        "match": "^spawn",
        "turns": [{"call": {"name": "collaboration__spawn", "arguments": {}}}, {"text": "done: spawn"}],
    },
    {"match": "^garbled", "turns": [{"call": {"name": "shell", "arguments": {"nonsense": 1}}}]},
    {"match": "^hello", "turns": [{"text": "hello"}]},
]

RARE: dict[str, Json] = {"function": {"arguments": {}}, "custom": {"input": "x"}}
SEARCHES: dict[str, list[Json]] = {
    kind: [
        {
            "match": "^search",
            "turns": [
                # the first that is offered: were the deferred tool there from the start, it would be called
                {"call": [{"name": "rare", **given}, {"name": "tool_search", "arguments": {"query": "rare"}}]},
                {"call": {"name": "rare", **given}},
                {"text": "found"},
            ],
        }
    ]
    for kind, given in RARE.items()
}


def user(text: str) -> Json:
    return {"type": "message", "role": "user", "content": text}


async def go_on(ask: Ask, first: Json, given: list[Json], answer: Json, is_resent: bool, **fields: Any) -> Json:
    """The answer to the call: as a continuation, or with the whole history sent again."""
    if is_resent:
        return await ask(input=[*given, *first["output"], answer], store=False, **fields)
    return await ask(input=[answer], previous_response_id=first["id"], **fields)


CALLS: list[tuple[str, Json, Json, Json]] = [
    (
        "local",
        LOCAL_SHELL,
        {"type": "local_shell_call", "action": {"type": "exec", "env": {}, "command": ["ls"]}},
        {"type": "local_shell_call_output", "output": "a.py"},
    ),
    (
        "local",
        LOCAL_SHELL,
        {"type": "local_shell_call", "action": {"type": "exec", "env": {}, "command": ["ls"]}},
        {"type": "function_call_output", "output": "a.py"},
    ),
    (
        "shell",
        SHELL,
        {"type": "shell_call", "action": {"commands": ["ls"], "timeout_ms": None, "max_output_length": None}},
        {
            "type": "shell_call_output",
            "output": [{"stdout": "a.py", "stderr": "", "outcome": {"type": "exit", "exit_code": 1}}],
        },
    ),
    (
        "patch",
        APPLY_PATCH,
        {"type": "apply_patch_call", "operation": PATCH},
        {"type": "apply_patch_call_output", "status": "failed", "output": "no such file"},
    ),
    (
        "exec",
        FUNCTIONS,
        {"type": "custom_tool_call", "name": "exec", "namespace": "functions", "input": "ls"},
        {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "a.py"}]},
    ),
    (
        "spawn",
        COLLABORATION,
        {"type": "function_call", "name": "spawn", "namespace": "collaboration", "arguments": "{}"},
        {"type": "function_call_output", "output": "done"},
    ),
]


@pytest.mark.parametrize("is_resent", [False, True], ids=["continued", "resent"])
@pytest.mark.parametrize(("question", "tool", "call", "answer"), CALLS)
@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_call_of_any_kind_is_made_and_answered(
    transport: str, question: str, tool: Json, call: Json, answer: Json, is_resent: bool
) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (server, ask):
        given = [user(question)]
        first = await ask(input=given, tools=[tool, WEB])
        (made,) = first["output"]
        assert {key: made[key] for key in call} == call
        assert made["status"] == "completed"
        done = await go_on(ask, first, given, {**answer, "call_id": made["call_id"]}, is_resent, tools=[tool, WEB])
        assert done["output"][0]["content"][0]["text"] == f"done: {question}"
        records = server.app.services.records.latest()
        assert records[-1].fallbacks == ()  # what the client sent again is what the model wrote


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_tools_that_an_item_brings_last_along_the_chain(transport: str) -> None:
    """Codex's "responses lite": no `tools`, the first input item brings them."""
    bring = {"type": "additional_tools", "role": "developer", "tools": [FUNCTIONS, COLLABORATION]}
    async with door(transport, scripted_model(SCRIPT)) as (server, ask):
        warm = await ask(input=[], generate=False)
        first = await ask(input=[bring, user("exec")], previous_response_id=warm["id"])
        assert first["output"][0]["name"] == "exec"
        answer = {"type": "custom_tool_call_output", "call_id": first["output"][0]["call_id"], "output": "a"}
        second = await ask(input=[answer], previous_response_id=first["id"])
        assert second["output"][0]["content"][0]["text"] == "done: exec"
        third = await ask(input=[user("spawn")], previous_response_id=second["id"])
        assert third["output"][0]["name"] == "spawn"
        records = server.app.services.records.latest()
        assert [record.fallbacks for record in records[-2:]] == [(), ()]
        again = await ask(input=[bring, user("exec"), first["output"][0], answer], store=False)
        assert again["output"][0]["content"][0]["text"] == "done: exec"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["function", "custom"])
async def test_a_deferred_tool_is_called_once_the_client_has_found_it(transport: str, kind: str) -> None:
    deferred: Json = DEFERRED if kind == "function" else {"type": "custom", "name": "rare", "defer_loading": True}
    async with door(transport, scripted_model(SEARCHES[kind])) as (_, ask):
        tools = [SEARCH, deferred]
        first = await ask(input=[user("search")], tools=tools)
        (call,) = first["output"]
        assert (call["type"], call["execution"], call["arguments"]) == ("tool_search_call", "client", {"query": "rare"})
        found = {"type": "tool_search_output", "call_id": call["call_id"], "execution": "client", "tools": [deferred]}
        second = await ask(input=[found], previous_response_id=first["id"], tools=tools)
        (rare,) = second["output"]
        call_type = {"function": "function_call", "custom": "custom_tool_call"}[kind]
        assert (rare["type"], rare["name"]) == (call_type, "rare")
        answer = {"type": f"{call_type}_output", "call_id": rare["call_id"], "output": ""}
        third = await ask(input=[answer], previous_response_id=second["id"], tools=tools)
        assert third["output"][0]["content"][0]["text"] == "found"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_garbled_call_comes_out_as_text(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        response = await ask(input=[user("garbled")], tools=[SHELL])
        (said,) = response["output"]
        assert json.loads(said["content"][0]["text"]) == {"nonsense": 1}
        after = await ask(input=[user("hello")], previous_response_id=response["id"], tools=[SHELL])
        assert after["status"] == "completed"


FOREIGN: list[Json] = [
    {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"], "results": None},
    {"type": "code_interpreter_call", "id": "ci_1", "status": "completed", "code": "1", "container_id": "c"},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "A" * 100_000},
    {"type": "computer_call", "id": "cu_1", "call_id": "c", "status": "completed", "action": {"type": "click"}},
    {"type": "mcp_list_tools", "id": "ml_1", "server_label": "s", "tools": []},
    {"type": "mcp_call", "id": "mc_1", "server_label": "s", "name": "n", "arguments": "{}", "output": "o"},
    {"type": "mcp_approval_request", "id": "ma_1", "server_label": "s", "name": "n", "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "ma_1", "approve": True},
    {"type": "program", "id": "p_1", "code": "x"},
    {"type": "agent_message", "id": "am_1", "content": []},
    {"type": "configuration_update", "reasoning": {"effort": "low"}},
    {"type": "something_of_tomorrow", "id": "x_1", "nested": [{"encrypted_content": "zz"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "thought"}]},
    {"role": "assistant", "content": "hi", "phase": "commentary"},
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_item_of_a_real_client_is_refused(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        for item in FOREIGN:
            if item.get("type") == "mcp_approval_response":  # an answer, of which there is none without its question
                continue
            response = await ask(input=[item, user("hello")])
            assert response.get("status") == "completed", (item["type"], response)
        response = await ask(input=[*FOREIGN, user("hello")])
        assert response["output"][0]["content"][0]["text"] == "hello"
        assert response["usage"]["input_tokens"] < 5_000  # a picture's bytes are not shown to a text model


PART = {"type": "part_of_tomorrow", "text": "plum", "encrypted_content": "zz"}
UNKNOWN: list[Json] = [
    {"role": "user", "content": [{"type": "input_text", "text": "hello "}, PART]},
    {"type": "something_of_tomorrow", "nested": PART},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": [PART, {"type": "input_text", "text": "and so on"}]},
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_nobody_here_knows_is_shown_as_its_json_and_counted(transport: str) -> None:
    known = [{"match": "^hello", "turns": [{"text": "read", "requires_history": '"plum"'}]}]
    async with door(transport, scripted_model(known), checks_requests=False) as (server, ask):
        response = await ask(input=[*UNKNOWN, user("hello")])
        assert response["output"][0]["content"][0]["text"] == "read"
        assert server.app.services.records.latest()[-1].fallbacks[-1] == "shown_as_json"
        listed = await list_input(server.url, response["id"])
        assert [listed[0]["content"][1], listed[1]["nested"], listed[3]["output"][0]] == [PART] * 3
        after = await ask(input=[user("hello")], previous_response_id=response["id"])
        assert (after["status"], server.app.services.records.latest()[-1].fallbacks) == ("completed", ())


async def list_input(url: str, response_id: str) -> list[Json]:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.get(f"/responses/{response_id}/input_items", params={"order": "asc"})
        items: list[Json] = answer.json()["data"]
        return items


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_output_that_names_no_call_answers_the_one_that_is_open(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT), checks_requests=False) as (server, ask):
        first = await ask(input=[user("spawn")], tools=[COLLABORATION])
        answer = {"type": "function_call_output", "name": "spawn", "call_id": None, "output": "done"}
        second = await ask(input=[answer], previous_response_id=first["id"], tools=[COLLABORATION])
        assert second["output"][0]["content"][0]["text"] == "done: spawn"
        assert (await list_input(server.url, second["id"]))[0]["call_id"] == first["output"][0]["call_id"]
        whose = await ask(input=[answer, user("hello")])  # of no call at all: shown as it is
        assert whose["status"] == "completed"
        calls = [{**first["output"][0], "call_id": f"c{number}"} for number in range(2)]
        unclear = await ask(input=[*calls, answer, user("hello")])
        assert (unclear["error"]["code"], unclear["error"]["param"]) == (
            "missing_required_parameter",
            "input[2].call_id",
        )


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_an_asynchronous_call_is_answered_whenever_its_client_can(transport: str) -> None:
    tool = {**SPAWN, "name": "spawn_slowly", "async": True}
    script: list[Json] = [
        {"match": "^start", "turns": [{"call": {"name": "spawn_slowly", "arguments": {}}}, {"text": "never asked"}]},
        {"match": "^hello", "turns": [{"text": "hello"}]},
        {"match": "^and now", "turns": [{"text": "done", "requires_history": "at last"}]},
    ]
    async with door(transport, scripted_model(script), checks_requests=False) as (_, ask):
        first = await ask(input=[user("start")], tools=[tool])
        (call,) = first["output"]
        assert (call["type"], call["async"]) == ("function_call", True)
        second = await ask(input=[user("hello")], previous_response_id=first["id"], tools=[tool])
        assert second["output"][0]["content"][0]["text"] == "hello"
        late = {"type": "function_call_output", "call_id": call["call_id"], "output": "at last"}
        third = await ask(input=[late, user("and now?")], previous_response_id=second["id"], tools=[tool])
        assert third["output"][0]["content"][0]["text"] == "done"
        history = [user("start"), call, user("hello"), *second["output"], late, user("and now?")]
        resent = await ask(input=history, tools=[tool], store=False)
        assert resent["output"][0]["content"][0]["text"] == "done"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_bad_pairs_and_choices_get_their_error_and_the_chain_goes_on(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT)) as (_, ask):
        first = await ask(input=[user("shell")], tools=[SHELL])
        call_id = first["output"][0]["call_id"]
        other = (await ask(input=[user("shell")], tools=[SHELL]))["output"][0]["call_id"]
        answer: Json = {"type": "shell_call_output", "call_id": call_id, "output": []}
        bad: list[tuple[list[Json], Json, str]] = [
            ([answer, answer], {}, "input"),  # twice
            ([{**answer, "call_id": other}], {}, "input"),  # of another chain
            ([answer, {**answer, "call_id": other}], {}, "input"),
            ([user("and now?")], {}, "input"),  # late: the call is still open
            ([{"type": "shell_call_output", "output": []}], {}, "input[0].call_id"),
            ([answer], {"tool_choice": {"type": "function", "name": "not_offered"}}, "tool_choice"),
            ([answer], {"tool_choice": {"type": "web_search"}, "tools": [WEB]}, "tool_choice"),
            ([answer], {"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ]
        for given, fields, param in bad:
            refused = await ask(input=given, previous_response_id=first["id"], **{"tools": [SHELL], **fields})
            assert refused["error"]["param"] == param, (given, refused)
            assert refused["error"]["type"] == "invalid_request_error"
        done = await ask(input=[answer], previous_response_id=first["id"], tools=[SHELL])
        assert done["output"][0]["content"][0]["text"] == "done: shell"
        late = await ask(input=[answer], previous_response_id=done["id"], tools=[SHELL])
        assert (late["error"]["code"], late["error"]["param"]) == ("invalid_value", "input")
        on = await ask(input=[user("hello")], previous_response_id=done["id"], tools=[SHELL])
        assert on["output"][0]["content"][0]["text"] == "hello"


async def test_a_typed_call_is_added_and_done_in_one_and_a_choice_may_name_it() -> None:
    async with door("websocket", scripted_model(SCRIPT)) as (server, _), open_socket(server) as socket:
        events = await socket.turn(input=[user("shell")], tools=[SHELL], tool_choice={"type": "shell"})
        kinds = [event["type"] for event in events]
        assert kinds[2:4] == ["response.output_item.added", "response.output_item.done"]
        assert events[2]["item"]["status"] == "in_progress"
        assert events[3]["item"]["status"] == "completed"
