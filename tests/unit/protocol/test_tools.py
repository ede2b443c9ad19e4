import json
from typing import Any

import pytest

from hotloop.errors import ApiError, InvalidRequest, InvalidType, MissingParameter, SchemaTooComplex, UnsupportedValue
from hotloop.protocol.offer import ToolChoice, offer_of, resolve_tool_choice
from hotloop.protocol.tools import (
    MAX_TOOLS,
    CustomTool,
    FunctionTool,
    GrammarFormat,
    HostedTool,
    Tool,
    decode_tools,
    echo_tools,
)

RUN = {"type": "function", "name": "run", "parameters": {"type": "object"}}
PATCH = {"type": "custom", "name": "patch"}
SEARCH = {"type": "web_search", "external_web_access": False}


def tools(*given: dict[str, Any]) -> tuple[Tool, ...]:
    return decode_tools(json.dumps(given).encode())


@pytest.mark.parametrize("raw", [b"null", b"[]", b"[ ]"])
def test_no_tools_are_none(raw: bytes) -> None:
    assert decode_tools(raw) == ()


def test_each_kind_of_tool_is_known() -> None:
    function, custom, hosted = tools(RUN, PATCH, SEARCH)
    assert isinstance(function, FunctionTool)
    assert isinstance(custom, CustomTool)
    assert isinstance(hosted, HostedTool)
    assert function.parameters is not None
    assert json.loads(bytes(function.parameters)) == {"type": "object"}
    assert hosted.kind == "web_search"


def test_parameters_may_be_absent_or_null() -> None:
    for given in ({"type": "function", "name": "a"}, {"type": "function", "name": "a", "parameters": None}):
        (tool,) = tools(given)
        assert isinstance(tool, FunctionTool)
        assert tool.parameters is None


def test_a_custom_tool_may_have_a_grammar() -> None:
    (tool,) = tools({**PATCH, "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a/"}})
    assert isinstance(tool, CustomTool)
    assert tool.format == GrammarFormat(syntax="lark", definition="start: /a/")


REFUSED: list[tuple[Any, type[ApiError], str]] = [
    ([{"name": "x"}], MissingParameter, "tools[0].type"),
    ([{"type": "function"}], MissingParameter, "tools[0].name"),
    ([{"type": "function", "name": "a b"}], InvalidRequest, "tools[0].name"),
    ([{"type": "function", "name": "x", "parameters": []}], InvalidType, "tools[0].parameters"),
    (
        [RUN, {**PATCH, "format": {"type": "grammar", "syntax": "bnf", "definition": ""}}],
        InvalidRequest,
        "tools[1].format.syntax",
    ),
    ([RUN, RUN], InvalidRequest, "tools[1].name"),
    ([RUN, {**PATCH, "name": "run"}], InvalidRequest, "tools[1].name"),
    ({}, InvalidType, "tools"),
]


@pytest.mark.parametrize(("given", "kind", "param"), REFUSED)
def test_a_refused_tool_is_named_with_its_place(given: Any, kind: type[ApiError], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        decode_tools(json.dumps(given).encode())
    assert (type(caught.value), caught.value.param) == (kind, param)


def test_the_echo_of_a_function_has_all_five_members() -> None:
    echo = json.loads(echo_tools(tools(RUN, {"type": "function", "name": "bare", "strict": True})))
    assert echo[0] == {
        "type": "function",
        "name": "run",
        "description": None,
        "parameters": {"type": "object"},
        "strict": None,
    }
    assert echo[1]["strict"] is True
    assert echo[1]["parameters"] is None


def test_the_echo_of_other_tools_is_as_given() -> None:
    custom, hosted = json.loads(echo_tools(tools(PATCH, SEARCH)))
    assert custom["type"] == "custom"
    assert custom["name"] == "patch"
    assert hosted == SEARCH


OFFERED = tools(RUN, PATCH, SEARCH)


@pytest.mark.parametrize(
    ("choice", "resolved"),
    [
        (None, ToolChoice("auto")),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "name": "run"}, ToolChoice("required", frozenset(["run"]))),
        ({"type": "custom", "name": "patch"}, ToolChoice("required", frozenset(["patch"]))),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "run"}, SEARCH]},
            ToolChoice("auto", frozenset(["run"])),
        ),
        (
            {"type": "allowed_tools", "mode": "required", "tools": [{"name": "run"}, {"name": "patch"}]},
            ToolChoice("required", frozenset(["run", "patch"])),
        ),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, ToolChoice("auto", frozenset())),
    ],
)
def test_a_choice_means_this(choice: "str | dict[str, Any] | None", resolved: ToolChoice) -> None:
    assert resolve_tool_choice(choice, offer_of(OFFERED)) == resolved


@pytest.mark.parametrize(
    ("choice", "offered", "kind"),
    [
        ({"type": "function", "name": "gone"}, OFFERED, InvalidRequest),
        ({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "gone"}]}, OFFERED, InvalidRequest),
        ({"type": "allowed_tools", "mode": "required", "tools": [SEARCH]}, OFFERED, InvalidRequest),
        ({"type": "allowed_tools", "mode": "required", "tools": ["run"]}, OFFERED, InvalidRequest),
        ({"type": "web_search"}, OFFERED, UnsupportedValue),
        ({"type": "web_search"}, (), InvalidRequest),
        ({"type": "function"}, OFFERED, InvalidRequest),
        ("always", OFFERED, InvalidRequest),
        ("required", tools(SEARCH), InvalidRequest),
        ({}, OFFERED, InvalidRequest),
    ],
)
def test_a_choice_that_cannot_be_kept_is_refused(choice: Any, offered: tuple[Tool, ...], kind: type[ApiError]) -> None:
    with pytest.raises(ApiError) as caught:
        resolve_tool_choice(choice, offer_of(offered))
    assert (type(caught.value), caught.value.param) == (kind, "tool_choice")


def test_too_many_tools_are_refused_before_they_are_read() -> None:
    bomb = json.dumps([{"type": "function", "name": f"t{n}"} for n in range(100_000)]).encode()
    for raw in (bomb, json.dumps([{"type": "web_search"}] * (MAX_TOOLS + 1)).encode()):
        with pytest.raises(SchemaTooComplex) as refused:
            decode_tools(raw)
        assert refused.value.param == "tools"
    assert len(decode_tools(json.dumps([{"type": "web_search"}] * MAX_TOOLS).encode())) == MAX_TOOLS
