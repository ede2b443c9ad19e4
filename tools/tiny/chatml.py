"""Conversations in ChatML, written as the server writes them for Qwen3's template.

The same text comes out of `TEMPLATE`, which is stored in the exported file; a test compares the two.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKER_TOKENS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
GENERATION_PROMPT = "<|im_start|>assistant\n"

_TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_AFTER = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    "<tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Args:
        role: "user", "assistant" or "tool".
        text: what stands in it; a call is already written out.
        learn: whether the model shall learn to write it; only looked at for the assistant.
    """

    role: str
    text: str
    learn: bool = True


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one training example is made of; `preamble` is the rendered system message, "" for none."""

    preamble: str
    messages: tuple[Message, ...]


def preamble(instructions: str | None, tools: Sequence[Mapping[str, Any]]) -> str:
    """Render the system message of a request: its instructions and its tools."""
    if not tools:
        return f"<|im_start|>system\n{instructions}<|im_end|>\n" if instructions else ""
    lines = "".join(f"\n{json.dumps(_signature(tool), ensure_ascii=False)}" for tool in tools)
    before = f"{instructions}\n\n" if instructions else ""
    return f"<|im_start|>system\n{before}{_TOOLS_BEFORE}{lines}{_TOOLS_AFTER}<|im_end|>\n"


def _signature(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {key: tool[key] for key in ("name", "description", "parameters") if key in tool},
    }


def call(name: str, arguments: Mapping[str, str]) -> str:
    """Write a call as the assistant writes it."""
    text = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{text}\n</tool_call>"


def render(conversation: Conversation) -> str:
    """The whole text of a conversation."""
    return conversation.preamble + "".join(_render(message) for message in conversation.messages)


def _render(message: Message) -> str:
    if message.role == "tool":
        return f"<|im_start|>user\n<tool_response>\n{message.text}\n</tool_response><|im_end|>\n"
    return f"<|im_start|>{message.role}\n{message.text}<|im_end|>\n"
