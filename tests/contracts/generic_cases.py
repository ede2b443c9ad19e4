"""Real chat templates that no family has, written by the generic format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tests.contracts.format_case import BRIEF, FormatCase, real
from tests.support.dialogues import Shape, is_stripped
from tests.support.real_templates import TODAY, ChatMessage, Style, template_source, tool_object
from tests.support.vocabularies import gguf

from hotloop.formats.generic.format import GenericFormat
from hotloop.protocol.items import Item
from hotloop.protocol.tools import CustomTool, FunctionTool
from hotloop.seams.prompt import PromptContext
from hotloop.seams.tokenizer import Tokenizer

_BOS = {"bos_token": "<s>", "eos_token": "</s>"}


def _whole_tool(tool: FunctionTool | CustomTool) -> ChatMessage:
    """Every tool has a description and parameters."""
    function = tool_object(tool)["function"]
    whole: ChatMessage = {"name": tool.name, "description": "", "parameters": {"type": "object", "properties": {}}}
    return {"type": "function", "function": {**whole, **function}}


def _generic(
    template: str,
    specials: Sequence[str],
    shape: Shape,
    *,
    style: Style | None = None,
    context: PromptContext = BRIEF,
    variables: Mapping[str, str] = _BOS,
    vocabulary: Callable[[], Tokenizer] | None = None,
    tail: str = "",
    seams_are_marks: bool = True,
    keeps_stop_token: bool = True,
    rewrites: bool = False,
    deviations: tuple[str, ...] = (),
) -> FormatCase:
    wanted = style or Style(reasoning=None)
    given = replace(wanted, variables={**variables, **wanted.variables}, tool=_whole_tool)
    oracle = real(template, context, given)

    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        return oracle(items, generate=generate) if generate else oracle(items).removesuffix(tail)

    return FormatCase(
        name=f"generic-{template}",
        make=lambda tokenizer: GenericFormat(tokenizer, template_source(template), variables=variables, today=TODAY),
        context=context,
        render=render,
        shape=shape,
        specials=(*specials, *variables.values()),
        vocabulary=vocabulary,
        # Each step renders the conversation five times, two of them by jinja2 for the oracle: 10 ms and more.
        examples=25,
        seams_are_marks=seams_are_marks,
        keeps_stop_token=keeps_stop_token,
        rewrites=rewrites,
        deviations=deviations,
    )


_NO_TOOLS = PromptContext("Be brief.", ())
_GRANITE = ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<tool_call>", "</tool_call>")
_CHAT = ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")


def _steers_no_thinking(text: str) -> bool:
    """The template looks for think blocks in what the model said; spelled in content they are text to us."""
    return is_stripped(text) and "think>" not in text


def _fold_system(messages: list[ChatMessage]) -> list[ChatMessage]:
    """The instructions in front of the first user message."""
    if messages and messages[0]["role"] == "system":
        system, first, *rest = messages
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]
    return messages


GENERIC_CASES = [
    _generic("ibm-granite-granite-4.0", _GRANITE, Shape()),
    _generic("ibm-granite-granite-4.1", _GRANITE, Shape()),
    _generic(
        "microsoft-Phi-3.5-mini-instruct",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        Shape(calls=False),
        context=_NO_TOOLS,
        tail="</s>",
        deviations=("the end-of-sequence token behind a conversation that asks for no answer is left out",),
    ),
    _generic("HuggingFaceTB-SmolLM3-3B", _CHAT, Shape(calls=False, developer=False), context=_NO_TOOLS),
    _generic("LFM2-8B-A1B", _CHAT, Shape(calls=False), context=_NO_TOOLS),
    _generic(
        "google-gemma-2-2b-it",
        ("<start_of_turn>", "<end_of_turn>"),
        Shape(calls=False, developer=False, questions_in_a_row=False, said=is_stripped),
        style=Style(reasoning=None, finish=_fold_system),
        context=_NO_TOOLS,
        deviations=("instructions stand in front of the first question: the template refuses a system message",),
    ),
    _generic(
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
        _CHAT,
        Shape(text_with_calls=False),  # the template leaves out a text beside calls
        seams_are_marks=False,
        rewrites=True,
    ),
    _generic(
        "Apertus-8B-Instruct",
        ("<|user_start|>", "<|assistant_start|>", "<|tools_prefix|>", "<|tools_suffix|>"),
        Shape(developer=False),
        keeps_stop_token=False,  # what ends an answer is written in front of the next question
    ),
    _generic(
        "MiniMax-M1",
        ("<beginning_of_sentence>", "<end_of_sentence>"),
        Shape(developer=False, said=is_stripped, text_with_calls=False),  # the template leaves out a text beside calls
    ),
    _generic(
        "meetkai-functionary-medium-v3.1",
        ("<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>"),
        Shape(custom=False),  # a tool called python is written as code
        keeps_stop_token=False,
        vocabulary=lambda: gguf("llama-bpe"),
        variables={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    ),
    _generic(
        "Bielik-11B-v3.0-Instruct",
        (*_CHAT, "<think>", "</think>"),
        Shape(reasoning=True, developer=False, said=_steers_no_thinking, thought=_steers_no_thinking),
        style=Style(),
        rewrites=True,  # an answer is written otherwise once something follows it
    ),
]
