"""DeepSeek for the Format suite: each version against its own template, with the deviations that its module lists."""

from collections.abc import Sequence
from dataclasses import replace

from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape
from tests.support.real_templates import ChatMessage, Edit, Style
from tests.support.vocabularies import hugging_face

from hotloop.formats import format_named
from hotloop.seams.prompt import PromptContext

DEEPSEEK_SPECIALS = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁calls▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁outputs▁begin｜>",
    "<｜tool▁outputs▁end｜>",
    "<｜tool▁output▁begin｜>",
    "<｜tool▁output▁end｜>",
    "<｜tool▁sep｜>",
    "｜DSML｜",
    "<think>",
    "</think>",
)


def _shows_reasoning(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Marks the answers behind the last question; no other keeps its reasoning."""
    last = max((index for index, message in enumerate(messages) if message["role"] == "user"), default=-1)
    for index, message in enumerate(messages):
        message["shown"] = index > last
        if index < last:
            message.pop("reasoning_content", None)
    return messages


def _deepseek(
    version: str,
    template: str,
    name: str,
    context: PromptContext,
    *,
    shape: Shape,
    style: Style,
    edits: Sequence[Edit] = (),
    toy_vocabulary: bool = False,
    seams_are_marks: bool = True,
) -> FormatCase:
    variables = {"bos_token": "<｜begin▁of▁sentence｜>", **style.variables}
    return FormatCase(
        name=f"deepseek-{version}-{name}",
        make=lambda tokenizer: format_named(f"deepseek-{version}", tokenizer),
        context=context,
        render=real(template, context, replace(style, variables=variables, developer="user"), edits),
        shape=shape,
        specials=DEEPSEEK_SPECIALS,
        vocabulary=None if toy_vocabulary else lambda: hugging_face("deepseek_v3.json"),
        examples=None if toy_vocabulary else 60,  # tokenizing with the real vocabulary takes ten times as long
        seams_are_marks=seams_are_marks,
    )


# `tojson` of a generator is llama.cpp's. Text beside calls, and reasoning until the next question, are deviations.
_R1_THINK = (
    "('<think>\\n' + (message['reasoning_content'].strip('\\n') + '\\n' if message['reasoning_content'] else '') "
    "+ '</think>\\n\\n' if message['shown'] else '')"
)
_R1_EDITS = (
    ("map(attribute='function') | tojson", "map(attribute='function') | list | tojson"),
    (
        "message['role'] == 'assistant' and not message['content']",
        "message['role'] == 'assistant' and message['tool_calls']",
    ),
    (
        "{{- '<｜Assistant｜><｜tool▁calls▁begin｜>' -}}",
        "{{- '<｜Assistant｜>' + " + _R1_THINK + " + message['content'] + '<｜tool▁calls▁begin｜>' -}}",
    ),
    (
        "message['role'] == 'assistant' and message['content'] -%}",
        "message['role'] == 'assistant' and not message['tool_calls'] -%}",
    ),
    ("content.split('</think>')[-1]", "content"),
    ("{{- '<｜Assistant｜>' + content", "{{- '<｜Assistant｜>' + " + _R1_THINK + " + content"),
)


def _r1(name: str, context: PromptContext, *, toy_vocabulary: bool = False) -> FormatCase:
    return _deepseek(
        "r1",
        "llama-cpp-deepseek-r1",
        name,
        context,
        shape=Shape(reasoning=True),
        style=Style(finish=_shows_reasoning),
        edits=_R1_EDITS,
        toy_vocabulary=toy_vocabulary,
    )


# The description of tools comes from the model card; prompts where the template has none; reasoning until the next question.
_V31_EDITS = (
    ("is_first_sp=true, is_last_user=false)", "is_first_sp=true, is_last_user=true)"),
    (
        "add_generation_prompt and ns.is_last_user and not ns.is_tool",
        "add_generation_prompt and (thinking or not ns.is_tool)",
    ),
    (
        "{{'<｜Assistant｜>'}}\n  {%- if not thinking",
        "{{'' if ns.is_tool else '<｜Assistant｜>'}}\n  {%- if not thinking",
    ),
    (
        "{%- else -%}{{'<think></think>'}}",
        "{%- else -%}{{'<think>' + message['reasoning_content'] | default('') + '</think>'}}",
    ),
    (
        "{%- if ns.is_tool -%}{{message['content']",
        "{%- if ns.is_tool -%}{%- if thinking and message['shown'] -%}{{'<think>' + message['reasoning_content'] | default('')"
        " + '</think>'}}{%- endif -%}{{message['content']",
    ),
    ("content.split('</think>', 1)[1]", "content"),
)
_V31_TOOLS = (
    "\n\n## Tools\nYou have access to the following tools:\n"
    "\n### shell\nDescription: Führt aus <b>\n\n"
    'Parameters: {"type": "object", "properties": {"zeta": {"type": "integer"}, "alpha": {"type": "string"}}, '
    '"required": ["zeta"], "additionalProperties": false}\n'
    "\n### bare\nDescription: \n\nParameters: {}\n"
    "\n### python\nDescription: runs it\n\n"
    'Parameters: {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}\n'
    "\nIMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
    "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>"
    "{additional_tool_calls}<｜tool▁calls▁end｜>\n\nWhere:\n"
    "- `tool_call_name` must be an exact match to one of the available tools\n"
    "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
    "- For multiple tool calls, chain them directly without separators or spaces\n"
)


def _with_v31_tools(messages: list[ChatMessage]) -> list[ChatMessage]:
    messages[0]["content"] += _V31_TOOLS
    return messages


def _v31(name: str, context: PromptContext, *, toy_vocabulary: bool = False) -> FormatCase:
    thinks = context.reasoning_effort is not None
    style = Style(
        reasoning="reasoning_content" if thinks else None,
        finish=_with_v31_tools if context.tools else _shows_reasoning,
        variables={"thinking": thinks},
    )
    shape = Shape(reasoning=thinks, calls=bool(context.tools))
    template = "deepseek-ai-DeepSeek-V3.1"
    return _deepseek(
        "v3.1", template, name, context, shape=shape, style=style, edits=_V31_EDITS, toy_vocabulary=toy_vocabulary
    )


# `<｜Assistant｜>` also where no question stands before it; `</think>` as the prompt without reasoning.
_V32_EDITS = (
    (
        "pending_asst_marker=false, pending_tool_marker=false) -%}",
        "pending_asst_marker=true, pending_tool_marker=false) -%}",
    ),
    (
        """  {%- if state.pending_asst_marker -%}
    {{- '<｜Assistant｜>' -}}
    {%- if thinking -%}
      {{- thinking_start_token -}}
    {%- else -%}
      {{- thinking_start_token + thinking_end_token -}}
    {%- endif -%}
  {%- elif state.pending_tool_marker -%}
    {%- if thinking -%}
      {{- '\\n\\n' + thinking_start_token -}}
    {%- else -%}
      {{- '\\n\\n' + thinking_start_token + thinking_end_token -}}
    {%- endif -%}
  {%- endif -%}""",
        """  {{- '\\n\\n' if messages and messages[-1]['role'] == 'tool' else '<｜Assistant｜>' -}}
  {{- thinking_start_token if thinking else thinking_end_token -}}""",
    ),
)


def _v32(name: str, context: PromptContext, *, toy_vocabulary: bool = False) -> FormatCase:
    thinks = context.reasoning_effort is not None
    return _deepseek(
        "v3.2",
        "deepseek-ai-DeepSeek-V3.2",
        name,
        context,
        shape=Shape(reasoning=thinks),
        style=Style(variables={"thinking": thinks}),
        edits=_V32_EDITS,
        toy_vocabulary=toy_vocabulary,
        seams_are_marks=False,
    )


def _v4(version: str, template: str, name: str, context: PromptContext, *, toy_vocabulary: bool = False) -> FormatCase:
    effort = context.reasoning_effort
    style = Style(
        variables={"thinking": effort is not None, "reasoning_effort": "max" if effort == "xhigh" else effort},
    )
    return _deepseek(
        version,
        f"deepseek-ai-DeepSeek-{template}",
        name,
        context,
        shape=Shape(reasoning=effort is not None, calls=bool(context.tools)),
        style=style,
        toy_vocabulary=toy_vocabulary,
        seams_are_marks=False,
    )


_BARE = PromptContext()

DEEPSEEK_CASES = [
    _r1("real", BRIEF),
    _r1("toy", BRIEF, toy_vocabulary=True),
    _v31("real", BRIEF),
    _v31("thinking", PromptContext("Be brief.", (), reasoning_effort="high"), toy_vocabulary=True),
    _v31("bare", _BARE, toy_vocabulary=True),
    _v32("real", BRIEF),
    _v32("thinking", PromptContext("Be brief.", TOOLS, reasoning_effort="high"), toy_vocabulary=True),
    _v32("bare", _BARE, toy_vocabulary=True),
    _v4("v4", "V4", "real", BRIEF),
    _v4("v4", "V4", "thinking", PromptContext("Be brief.", TOOLS, reasoning_effort="xhigh"), toy_vocabulary=True),
    _v4("v4", "V4", "no-tools", PromptContext(None, (), reasoning_effort="high"), toy_vocabulary=True),
    _v4(
        "v4-flash",
        "V4-Flash-0731",
        "thinking",
        PromptContext(None, TOOLS, reasoning_effort="high"),
        toy_vocabulary=True,
    ),
]
