"""Everything the OpenAI SDK's types allow in a request, against a real server: served, or refused by the documented code.

The values are made from the SDK's own unions, so that a new member of one is tried as soon as the SDK is updated.
"""

from typing import Any

import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming, ToolChoice
from openai.types.responses.response_function_call_output_item_list_param import (
    ResponseFunctionCallOutputItemParam,
)
from openai.types.responses.response_includable import ResponseIncludable
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.response_input_message_content_list_param import ResponseInputContentParam
from openai.types.responses.tool_param import ToolParam
from tests.support.doors import Ask, Json, door
from tests.support.scripted_model import scripted_model
from tests.support.sdk_samples import name_of, samples
from typing_extensions import get_type_hints

HELLO: Json = {"role": "user", "content": "hello"}
CALL: Json = {"type": "function_call", "call_id": "text", "name": "f", "arguments": "{}"}
OUTPUT: Json = {"type": "function_call_output", "call_id": "text", "output": "done"}
WHOLE = {"least": False, "whole": True}


def cases(union: Any) -> list[Any]:
    """Each member of a union twice: with what it must have, and with all that it may have."""
    return [
        pytest.param(value, id=f"{number}-{name_of(value)}-{name}")
        for name, whole in WHOLE.items()
        for number, value in enumerate(samples(union, whole=whole))
    ]


async def served(ask: Ask, *, refused: str | None = None, **fields: Any) -> None:
    """The request is completed, or refused by that code with the field named."""
    answer = await ask(store=False, **fields)
    if refused is None:
        assert answer.get("status") == "completed", answer
    else:
        assert (answer["error"]["code"], bool(answer["error"]["param"])) == (refused, True), answer


def with_its_pair(item: Json) -> list[Json]:
    """A call with its output, an output with its call."""
    kind = item.get("type", "message")
    if kind == "mcp_approval_response":
        asked = {"type": "mcp_approval_request", "id": item["approval_request_id"], "server_label": "s", "name": "t"}
        return [{**asked, "arguments": "{}"}, item]
    if "call_id" not in item and kind != "local_shell_call_output":
        return [item]
    match kind:
        case "function_call" | "custom_tool_call" | "tool_search_call":
            return [item] if item.get("async") else [item, OUTPUT]
        case "local_shell_call" | "shell_call" | "apply_patch_call":
            return [item, {**OUTPUT, "type": f"{kind}_output"}]
        case _ if kind.endswith("output") and kind not in ("computer_call_output", "program_output"):
            return [CALL, item]
        case _:
            return [item]


@pytest.mark.parametrize("item", cases(ResponseInputItemParam))
async def test_every_item_is_taken(item: Json) -> None:
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        text = str(item)
        match item.get("type"):
            case "compaction_trigger":
                await served(ask, input=[HELLO, item])
            case "compaction":  # sealed by somebody else
                await served(ask, input=[item, HELLO], refused="invalid_encrypted_content")
            case "reasoning" if "encrypted_content" in item:
                await served(ask, input=[item, HELLO], refused="invalid_encrypted_content")
            case "item_reference" | None if "id" in item and "role" not in item:
                await served(ask, input=[item, HELLO], refused="item_not_found")
            case "message" | None if "'input_image'" in text:  # no model here takes one
                await served(ask, input=[item, HELLO], refused="unsupported_value")
            case _:
                await served(ask, input=[*with_its_pair(item), HELLO])


def why_not(part: Json) -> str | None:
    """Pictures are for no model here; a file is there or not, and is text or not."""
    match part["type"]:
        case "input_text":
            return None
        case "input_file" if len(part) == 1:
            return "missing_required_parameter"
        case _:
            return "unsupported_value"


@pytest.mark.parametrize("part", cases(ResponseInputContentParam))
async def test_every_part_of_a_message_is_taken_or_named(part: Json) -> None:
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        await served(ask, input=[{"role": "user", "content": [part]}, HELLO], refused=why_not(part))


@pytest.mark.parametrize("part", cases(ResponseFunctionCallOutputItemParam))
async def test_every_part_of_an_output_is_taken_or_named(part: Json) -> None:
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        await served(ask, input=[CALL, {**OUTPUT, "output": [part]}, HELLO], refused=why_not(part))


def why_no_server(tool: Json) -> str | None:
    """No MCP server is configured here, and those of OpenAI's are nowhere but there."""
    if tool["type"] != "mcp":
        return None
    return "unsupported_parameter" if "connector_id" in tool else "unsupported_value"


@pytest.mark.parametrize("tool", cases(ToolParam))
async def test_every_tool_is_taken(tool: Json) -> None:
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        await served(ask, input=[HELLO], tools=[tool], refused=why_no_server(tool))
        await served(ask, input=[{"type": "additional_tools", "role": "developer", "tools": [tool]}, HELLO])


# Run by another server, or, of MCP, not among the tools given.
NOT_SERVED = {
    "mcp": "invalid_value",
    "programmatic_tool_calling": "unsupported_value",
    "file_search": "unsupported_value",
}


@pytest.mark.parametrize("choice", cases(ToolChoice))
async def test_every_choice_of_tools_is_taken_or_named(choice: str | Json) -> None:
    tools = [tool for tool in samples(ToolParam, whole=False) if tool["type"] != "mcp"]
    if isinstance(choice, dict) and "name" in choice and choice["type"] != "mcp":
        (named,) = (tool for tool in tools if tool["type"] == choice["type"])
        choice = {**choice, "name": named["name"]}
    if isinstance(choice, dict) and choice["type"] == "allowed_tools":  # its entries are any objects to the SDK
        choice = {**choice, "tools": [{key: tool[key] for key in ("type", "name") if key in tool} for tool in tools]}
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        refused = NOT_SERVED.get(choice["type"]) if isinstance(choice, dict) else None
        await served(ask, input=[HELLO], tools=tools, tool_choice=choice, refused=refused)


@pytest.mark.parametrize("value", cases(ResponseIncludable))
async def test_every_include_is_taken(value: str) -> None:
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        await served(ask, input=[HELLO], include=[value])


# Fields whose samples name something that is not here, or that nobody serves.
NOT_HERE = {
    "conversation": "conversation_not_found",
    "model": "model_not_found",
    "previous_response_id": "previous_response_not_found",
    "prompt": "unsupported_parameter",
}
OF_THEIR_OWN = (
    "background",
    "include",
    "input",
    "store",
    "tool_choice",
    "tools",
)  # tried above, or no field of its own


FIELDS = {
    name: kind for name, kind in get_type_hints(ResponseCreateParamsNonStreaming).items() if name not in OF_THEIR_OWN
}


@pytest.mark.parametrize("name", FIELDS)
async def test_every_field_is_taken_or_named(name: str) -> None:
    async with door("http", scripted_model(), checks_requests=False) as (_, ask):
        for whole in WHOLE.values():
            for value in samples(FIELDS[name], whole=whole):
                await served(ask, **{"input": [HELLO], name: value}, refused=NOT_HERE.get(name))
        left_out = "missing_required_parameter" if name == "model" else None
        await served(ask, **{"input": [HELLO], name: None}, refused=left_out)
