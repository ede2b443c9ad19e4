"""How messages have to look for Mistral's chat templates."""

from typing import Any

from tests.support.real_templates import ChatMessage, Style

_ENDS: dict[str, object] = {"bos_token": "<s>", "eos_token": "</s>"}


def distinct(messages: list[ChatMessage]) -> list[ChatMessage]:
    """The templates compare messages to find the last question: one in the same words must not pass for it."""
    return [{**message, "place": place} for place, message in enumerate(messages)]


def _system_in_question(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Instructions at the place where the template has them as long as the last message is the question."""
    if not messages or messages[0]["role"] != "system":
        return distinct(messages)
    system, *others = messages
    last = max((place for place, message in enumerate(others) if message["role"] == "user"), default=None)
    if last is not None:
        others[last] = {**others[last], "content": f"{system['content']}\n\n{others[last]['content']}"}
    return distinct(others)


def _as_blocks(messages: list[ChatMessage]) -> list[ChatMessage]:
    """Reasoning is a block of the content."""
    return [_with_blocks(message) if "thinking" in message else message for message in messages]


def _with_blocks(message: ChatMessage) -> ChatMessage:
    blocks: list[dict[str, Any]] = [{"type": "thinking", "thinking": message["thinking"]}]
    if message["content"]:
        blocks.append({"type": "text", "text": message["content"]})
    return {**message, "content": blocks}


NEMO = Style(reasoning=None, variables=_ENDS, finish=_system_in_question)
SMALL = Style(reasoning=None, variables=_ENDS, finish=distinct)
DEVSTRAL = Style(reasoning=None, variables=_ENDS, arguments="text")
MINISTRAL = Style(reasoning="thinking", variables=_ENDS, arguments="text", finish=_as_blocks)
