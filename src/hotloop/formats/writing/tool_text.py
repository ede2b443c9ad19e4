"""How tools and the calls of custom tools are shown as JSON, alike in most families."""

import json
from collections.abc import Sequence

from hotloop.protocol.tools import CustomTool, FunctionTool, GrammarFormat, HostedTool, Tool


def shown_tools(tools: Sequence[Tool]) -> list[FunctionTool | CustomTool]:
    """The tools a model gets to see: all that are not run elsewhere."""
    return [tool for tool in tools if not isinstance(tool, HostedTool)]


def tool_object(tool: FunctionTool | CustomTool) -> dict[str, object]:
    """A tool as an OpenAI function tool, key order as given. A custom tool is a function with the one argument `input`."""
    function: dict[str, object] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    parameters = tool_parameters(tool)
    if parameters is not None:
        function["parameters"] = parameters
    return {"type": "function", "function": function}


def tool_json(tool: FunctionTool | CustomTool) -> str:
    """A tool as templates show it with `tojson`."""
    return json.dumps(tool_object(tool), ensure_ascii=False)


def tool_parameters(tool: FunctionTool | CustomTool) -> object:
    """The JSON Schema of a tool's arguments; None if it has none."""
    if isinstance(tool, FunctionTool):
        return None if tool.parameters is None else json.loads(bytes(tool.parameters))
    text: dict[str, str] = {"type": "string"}
    if isinstance(tool.format, GrammarFormat):
        text["description"] = f"Text that this {tool.format.syntax} grammar accepts:\n{tool.format.definition}"
    return {"type": "object", "properties": {"input": text}, "required": ["input"]}


def custom_arguments(text: str) -> str:
    """The arguments that stand for a custom tool's free text."""
    return json.dumps({"input": text}, ensure_ascii=False)


def custom_names(tools: Sequence[Tool]) -> frozenset[str]:
    """Names of the tools that take free text."""
    return frozenset(tool.name for tool in tools if isinstance(tool, CustomTool))
