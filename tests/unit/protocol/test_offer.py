import json
from typing import Any

import msgspec
import pytest

from hotloop.errors import ApiError, InvalidRequest, SchemaTooComplex
from hotloop.protocol.hosted_items import ListedTool
from hotloop.protocol.offer import CallTarget, ToolChoice, flat_name, offer_of, resolve_tool_choice
from hotloop.protocol.tools import MAX_TOOLS, FunctionTool, Tool, decode_tools, echo_tools
from hotloop.protocol.wire import json_bytes

RUN = {"type": "function", "name": "run"}
PATCH = {"type": "custom", "name": "patch"}
TEAM = {"type": "namespace", "name": "team", "tools": [RUN, {"type": "custom", "name": "say"}, {"type": "web_search"}]}
OWN = {"type": "namespace", "name": "functions", "tools": [PATCH]}
SERVER = {"type": "namespace", "name": "mcp__files__", "tools": [{"type": "function", "name": "read"}]}
SHELL = {"type": "shell"}
HOSTED_SHELL = {"type": "shell", "environment": {"type": "container_auto"}}
SEARCH = {"type": "tool_search", "execution": "client", "parameters": {"type": "object"}}
RARE = {"type": "function", "name": "rare", "defer_loading": True}


def tools(*given: dict[str, Any]) -> tuple[Tool, ...]:
    return decode_tools(json.dumps(given).encode())


def names(*given: dict[str, Any]) -> list[str]:
    return [tool.name for tool in offer_of(tools(*given)).tools]


def test_a_namespace_becomes_part_of_the_name_but_for_the_plain_one() -> None:
    offer = offer_of(tools(RUN, TEAM, OWN, SERVER))
    assert [tool.name for tool in offer.tools] == ["run", "team__run", "team__say", "patch", "mcp__files__read"]
    assert offer.targets["team__run"] == CallTarget("run", "team")
    assert offer.targets["patch"] == CallTarget("patch", "functions")
    assert flat_name("read", "mcp__files__") == "mcp__files__read"
    assert offer.places[2] == "tools[1].tools[1]"


def test_typed_tools_are_offered_as_strict_functions() -> None:
    offer = offer_of(tools(SHELL, {"type": "local_shell"}, {"type": "apply_patch"}))
    assert [tool.name for tool in offer.tools] == ["shell", "local_shell", "apply_patch"]
    assert all(isinstance(tool, FunctionTool) and tool.strict for tool in offer.tools)
    assert offer.targets["shell"].kind == "shell"


def test_what_only_another_server_runs_is_left_out_and_echoed() -> None:
    given = tools(HOSTED_SHELL, {"type": "web_search"}, {"type": "tool_search"})
    assert offer_of(given).tools == ()
    assert offer_of(given).hosted == {"shell", "web_search", "tool_search"}
    assert [tool["type"] for tool in json.loads(echo_tools(given))] == ["shell", "web_search", "tool_search"]


def test_a_deferred_tool_waits_for_the_search_if_there_is_one() -> None:
    assert names(RARE) == ["rare"]
    assert names(RARE, {"type": "tool_search"}) == ["rare"]  # nobody here would search
    assert names(SEARCH, RARE) == ["tool_search"]
    found = offer_of(tools(SEARCH, RARE), [tools(RARE)])
    assert [tool.name for tool in found.tools] == ["tool_search", "rare"]
    assert found.places[1] == "input.tools[0]"
    assert json.loads(echo_tools(tools(RARE)))[0]["defer_loading"] is True


def test_a_later_definition_takes_the_earlier_ones_place() -> None:
    newer = {**RUN, "description": "newer"}
    offer = offer_of(tools(RUN, PATCH), [tools(newer)])
    assert [tool.description for tool in offer.tools] == ["newer", None]


def test_two_tools_of_one_name_are_refused_with_the_second_ones_place() -> None:
    for given, param in (
        ((RUN, {"type": "namespace", "name": "functions", "tools": [RUN]}), "tools[1].tools[0].name"),
        ((SHELL, {"type": "function", "name": "shell"}), "tools[1].name"),
        ((TEAM, TEAM), "tools[1].tools[0].name"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            offer_of(tools(*given))
        assert refused.value.param == param


def test_a_namespace_is_bounded_like_the_tools() -> None:
    many = [{"type": "function", "name": f"t{n}"} for n in range(MAX_TOOLS + 1)]
    with pytest.raises(SchemaTooComplex):
        tools({"type": "namespace", "name": "n", "tools": many})
    halves = [{"type": "namespace", "name": f"n{half}", "tools": many[:-100]} for half in range(2)]
    with pytest.raises(SchemaTooComplex):
        offer_of(tools(*halves))


def test_a_namespace_holds_no_namespace() -> None:
    nested: dict[str, Any] = {"type": "function", "name": "deep"}
    for _ in range(200):
        nested = {"type": "namespace", "name": "n", "tools": [nested]}
    assert offer_of(tools(nested)).tools == ()


@pytest.mark.parametrize(
    ("choice", "chosen"),
    [
        ({"type": "shell"}, {"shell"}),
        ({"type": "function", "name": "run", "namespace": "team"}, {"team__run"}),
        ({"type": "custom", "name": "say"}, {"team__say"}),
        ({"type": "custom", "name": "patch", "namespace": "functions"}, {"patch"}),
    ],
)
def test_a_choice_may_name_a_tool_of_any_kind(choice: dict[str, Any], chosen: set[str]) -> None:
    offer = offer_of(tools(TEAM, OWN, SHELL))
    assert resolve_tool_choice(choice, offer) == ToolChoice("required", frozenset(chosen))
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": [choice, {"type": "web_search"}]}
    assert resolve_tool_choice(allowed, offer) == ToolChoice("auto", frozenset(chosen))


def test_a_whole_namespace_may_be_allowed() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "namespace", "name": "team"}]}
    assert resolve_tool_choice(allowed, offer_of(tools(TEAM, SHELL))).names == frozenset({"team__run", "team__say"})


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "apply_patch"},
        {"type": "function", "name": "run", "namespace": "other"},
        {"type": "function", "name": "read"},  # two namespaces have it
        {"type": "function"},
    ],
)
def test_a_choice_of_what_is_not_offered_is_refused(choice: dict[str, Any]) -> None:
    twins = [{**SERVER, "name": name} for name in ("a", "b")]
    with pytest.raises(ApiError) as refused:
        resolve_tool_choice(choice, offer_of(tools(TEAM, *twins)))
    assert refused.value.param == "tool_choice"


def test_the_tools_of_a_server_are_offered_once_they_are_known() -> None:
    given = tools(
        {"type": "mcp", "server_label": "files", "server_description": "Of the team.", "require_approval": "never"},
        {"type": "mcp", "server_label": "wiki"},
    )
    schema: dict[str, Any] = {"type": "object", "properties": {"b": {}, "a": {}}}
    offer = offer_of(
        given,
        [],
        {"files": [ListedTool(name="read", description="Reads.", input_schema=msgspec.Raw(json_bytes(schema)))]},
    )
    assert offer.servers == {"files", "wiki"}
    (tool,) = offer.tools
    assert isinstance(tool, FunctionTool) and not tool.strict
    assert (tool.name, tool.description) == ("files__read", "Reads.\n\nOf the team.")
    assert bytes(tool.parameters or b"") == b'{"type":"object","properties":{"b":{},"a":{}}}'
    assert (offer.targets["files__read"].server, offer.targets["files__read"].needs_approval) == ("files", False)
    assert offer.places == ("tools[0]",)
    assert offer.server_tools == {"files__read"}
