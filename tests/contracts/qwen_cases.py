"""Cases of the Format suite for ChatML with calls in JSON, against the templates of Qwen3, QwQ and MiMo."""

from collections.abc import Callable, Sequence

from tests.contracts.format_case import BRIEF, FormatCase, Render
from tests.support.conversations import TOOLS
from tests.support.dialogues import Shape, starts_visibly
from tests.support.real_templates import ChatMessage, RealTemplate, Style
from tests.support.vocabularies import gguf

from hotloop.formats import format_named
from hotloop.protocol.items import CustomToolCall, FunctionCall, FunctionCallOutput, Item, Message
from hotloop.seams.prompt import PromptContext

_OFF = PromptContext("Be brief.", TOOLS, reasoning_effort="none")
_PROBE = FunctionCallOutput(call_id="probe", output="")
_PROBE_TEXT = "<|im_start|>user\n<tool_response>\n\n</tool_response><|im_end|>\n"


def _has_no(*marks: str) -> Callable[[str], bool]:
    return lambda text: starts_visibly(text) and not any(mark in text for mark in marks)


def _since_last_question(messages: Sequence[ChatMessage]) -> int:
    """Place of the first message behind the user's last question."""
    for place in range(len(messages) - 1, -1, -1):
        text = messages[place]["content"]
        is_answer = text.startswith("<tool_response>") and text.endswith("</tool_response>")
        if messages[place]["role"] == "user" and not is_answer:
            return place + 1
    return 0


def _with_blocks(messages: list[ChatMessage], block: Callable[[ChatMessage], str]) -> list[ChatMessage]:
    """A think block in front of every answer behind the last question, as part of its text."""
    start = _since_last_question(messages)
    out: list[ChatMessage] = []
    for place, message in enumerate(messages):
        if message["role"] == "assistant" and place >= start:
            text = block(message)
            # The template puts a line end between a text and calls.
            content = text + message["content"] if message["content"] else text.removesuffix("\n")
            out.append({**message, "content": content, "reasoning_content": ""})
        else:
            out.append(message)
    return out


def _never_last(template: str, context: PromptContext, style: Style) -> Render:
    """A rendering in which no answer is the last message: that one gets a think block even without reasoning."""
    oracle = RealTemplate(template, style)

    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        prompt = ""
        if generate:
            prompt = oracle.render(context, items, generate=True).removeprefix(oracle.render(context, items))
        match items[-1]:
            case FunctionCall() | CustomToolCall() | Message(role="assistant"):
                return oracle.render(context, [*items, _PROBE]).removesuffix(_PROBE_TEXT) + prompt
            case _:
                return oracle.render(context, items) + prompt

    return render


def _qwq(context: PromptContext) -> Render:
    """The template's text with the reasoning of the running tool loop put where it was sampled."""

    def render(items: Sequence[Item], *, generate: bool = False) -> str:
        thoughts: list[str] = []

        def hold(messages: list[ChatMessage]) -> list[ChatMessage]:
            return _with_blocks(messages, lambda message: _hold(message, thoughts))

        style = Style(finish=hold, variables={"enable_thinking": True})
        text = RealTemplate("Qwen-QwQ-32B", style).render(context, items, generate=generate)
        for place, thought in enumerate(thoughts):
            text = text.replace(f"\x00{place}\x00", f"<think>\n{thought}\n</think>\n")
        return text

    return render


def _hold(message: ChatMessage, thoughts: list[str]) -> str:
    if not message.get("reasoning_content"):
        return ""
    thoughts.append(message["reasoning_content"])
    return f"\x00{len(thoughts) - 1}\x00\n"


def _empty_block(_message: ChatMessage) -> str:
    return "<think>\n\n</think>\n\n"


def _empty_reasoning(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Reasoning is given apart from the text, so that the template does not look for it there."""
    return [{"reasoning_content": "", **one} if one["role"] == "assistant" else one for one in messages]


_SAID = _has_no("<think>", "</think>")
_THINKS = Shape(reasoning=True, said=_SAID, thought=_has_no("</think>"))
_QWEN3 = "Qwen-Qwen3-0.6B"

QWEN_CASES = [
    FormatCase(
        name="qwen3-real",
        make=lambda tokenizer: format_named("qwen3", tokenizer),
        context=BRIEF,
        render=_never_last(_QWEN3, BRIEF, Style(finish=_empty_reasoning)),
        shape=_THINKS,
        vocabulary=lambda: gguf("qwen35"),
        deviations=("the last answer has no think block where it has no reasoning",),
    ),
    FormatCase(
        name="qwen3-off-real",
        make=lambda tokenizer: format_named("qwen3", tokenizer),
        context=_OFF,
        render=_never_last(
            _QWEN3,
            _OFF,
            Style(finish=lambda messages: _with_blocks(messages, _empty_block), variables={"enable_thinking": False}),
        ),
        shape=Shape(said=_SAID),
        vocabulary=lambda: gguf("qwen35"),
        deviations=("an empty think block stays until the next question",),
    ),
    FormatCase(
        name="qwq",
        make=lambda tokenizer: format_named("qwq", tokenizer),
        context=BRIEF,
        render=_qwq(BRIEF),
        shape=Shape(reasoning=True, always_reasons=True, said=_SAID, thought=_has_no("</think>")),
        vocabulary=lambda: gguf("qwen35"),
        deviations=("reasoning stays until the next question; the template drops it at once",),
    ),
    FormatCase(
        name="mimo",
        make=lambda tokenizer: format_named("mimo", tokenizer),
        context=PromptContext(None, TOOLS),
        render=lambda items, *, generate=False: RealTemplate("MiMo-VL").render(
            PromptContext(None, TOOLS), items, generate=generate
        ),
        shape=Shape(developer=False),
        vocabulary=lambda: gguf("qwen2"),
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    ),
]
