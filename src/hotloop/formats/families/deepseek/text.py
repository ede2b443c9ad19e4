"""What DeepSeek's templates have in common: markers and the description of tools.

V3.1's template leaves tools to the system prompt; `TOOLS_V31` is what DeepSeek's model card puts there.
"""

import json

from hotloop.formats.bases.answers.section_calls import CallMarks
from hotloop.formats.families.deepseek.dsml import section, section_end
from hotloop.formats.writing.tool_text import shown_tools, tool_object, tool_parameters
from hotloop.protocol.tools import CustomTool, FunctionTool
from hotloop.seams.prompt import PromptContext

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
USER = "<｜User｜>"
ASSISTANT = "<｜Assistant｜>"
OUTPUTS = "<｜tool▁outputs▁begin｜>"
OUTPUTS_END = "<｜tool▁outputs▁end｜>"
OUTPUT = "<｜tool▁output▁begin｜>"
OUTPUT_END = "<｜tool▁output▁end｜>"
CALLS = CallMarks(
    section="<｜tool▁calls▁begin｜>",
    section_end="<｜tool▁calls▁end｜>",
    call="<｜tool▁call▁begin｜>",
    separator="<｜tool▁sep｜>",
    call_end="<｜tool▁call▁end｜>",
)

TOOLS_R1_HEAD = "You can call any of the following function tools to satisfy the user's requests: "
TOOLS_R1_TAIL = (
    f"\n\nExample function tool call syntax:\n\n{CALLS.section}{CALLS.call}function{CALLS.separator}example_function_name\n"
    f'```json\n{{\n  "arg1": "some_value"\n  ...\n}}\n```\n{CALLS.call_end}{CALLS.section_end}\n\n'
)

TOOLS_V31_HEAD = "## Tools\nYou have access to the following tools:\n"
TOOLS_V31_TAIL = (
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    f"{CALLS.section}{CALLS.call}tool_call_name{CALLS.separator}tool_call_arguments{CALLS.call_end}"
    f"{{additional_tool_calls}}{CALLS.section_end}\n\nWhere:\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces\n"
)

_D = "｜DSML｜"
TOOLS_V32_HEAD = (
    "## Tools\n\nYou have access to a set of tools you can use to answer the user's question.\n"
    f'You can invoke functions by writing a "{section("function_calls")}" block like the following as part of your reply to '
    f'the user:\n{section("function_calls")}\n<{_D}invoke name="$FUNCTION_NAME">\n'
    f'<{_D}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{_D}parameter>\n...\n</{_D}invoke>\n'
    f'<{_D}invoke name="$FUNCTION_NAME2">\n...\n</{_D}invoke>\n{section_end("function_calls")}\n\n'
    "String and scalar parameters should be specified as is without any escaping or quotes, while lists and objects should "
    'use JSON format. The "string" attribute should be set to "true" for string type parameters and "false" for other types '
    "(numbers, booleans, arrays, objects).\n\n"
    "If the thinking_mode is enabled, then after function results you should strongly consider outputting a thinking block. "
    f"Here is an example:\n\n{section('function_calls')}\n...\n{section_end('function_calls')}\n\n"
    "<function_results>\n...\n</function_results>\n\n<think>...thinking about results</think>\n\n"
    "Here are the functions available in JSONSchema format:\n<functions>\n"
)
TOOLS_V32_TAIL = "</functions>\n"

V4_CALLS = "tool_calls"
TOOLS_V4_HEAD = (
    "## Tools\n\nYou have access to a set of tools to help answer the user's question. You can invoke tools by writing a "
    f'"{section(V4_CALLS)}" block like the following:\n\n{section(V4_CALLS)}\n<{_D}invoke name="$TOOL_NAME">\n'
    f'<{_D}parameter name="$PARAMETER_NAME" string="true|false">$PARAMETER_VALUE</{_D}parameter>\n...\n</{_D}invoke>\n'
    f'<{_D}invoke name="$TOOL_NAME2">\n...\n</{_D}invoke>\n{section_end(V4_CALLS)}\n\n'
    'String parameters should be specified as is and set `string="true"`. For all other types (numbers, booleans, arrays, '
    'objects), pass the value in JSON format and set `string="false"`.\n\n'
    "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside <think>...</think> "
    "BEFORE any tool calls or final response.\n\n"
    "Otherwise, output directly after </think> with tool calls or final response.\n\n### Available Tool Schemas\n\n"
)
TOOLS_V4_TAIL = "\nYou MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"

# What the highest efforts put in front of everything.
EFFORT_ABSOLUTE = (
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\nYou MUST be very thorough in your "
    "thinking and comprehensively decompose the problem to resolve the root cause, rigorously "
    "stress-testing your logic against all potential paths, edge cases, and adversarial "
    "scenarios.\nExplicitly write out your entire deliberation process, documenting every intermediate "
    "step, considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
    "unchecked.\n\n"
)
EFFORT_BEYOND = (
    "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\nYou MUST reason with "
    "the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively decompose the "
    "problem into its most fundamental components, trace every causal chain to its root, and resolve the "
    "underlying cause rather than any surface symptom.\nDo not stop reasoning until you have "
    "independently verified the solution from multiple angles and are certain that no assumption remains "
    "unchecked and no error remains undiscovered.\n\n"
)

TEMPLATE_MARKS = (*CALLS.all, _D, "<think>", "</think>")


def function_object(tool: FunctionTool | CustomTool) -> object:
    """What stands under `function` in an OpenAI function tool."""
    return tool_object(tool)["function"]


def tools_v31(context: PromptContext) -> str:
    """The description of tools, by DeepSeek's model card of V3.1; no template marks in it but those of the syntax."""
    lines: list[str] = []
    for tool in shown_tools(context.tools):
        parameters = json.dumps(tool_parameters(tool) or {}, ensure_ascii=False)
        lines.append(f"\n### {tool.name}\nDescription: {tool.description or ''}\n\nParameters: {parameters}\n")
    return "".join(lines)
