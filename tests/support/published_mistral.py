"""Mistral's own encoder (mistral-common) for each version of the instruct format, over the vocabulary of Mistral Nemo.

Only Nemo's vocabulary comes with the package. For later versions it is given their special tokens and version number, which
is what decides how mistral-common writes a conversation.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from mistral_common.protocol.instruct.messages import AssistantMessage, SystemMessage, ToolMessage, UserMessage
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import Function, FunctionCall, Tool, ToolCall
from mistral_common.tokens.tokenizers.base import SpecialTokenPolicy
from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tests.support.vocabularies import tekken_file

__all__ = [
    "AssistantMessage",
    "ChatMessage",
    "Function",
    "FunctionCall",
    "SystemMessage",
    "Tool",
    "ToolCall",
    "ToolMessage",
    "UserMessage",
    "published_text",
]

_NEW_MARKS = ("[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]")
ChatMessage = SystemMessage | UserMessage | AssistantMessage | ToolMessage


@cache
def _encoder(version: str) -> Any:
    data = json.loads(tekken_file().read_bytes())
    data["config"]["version"] = version
    names = [str(entry["token_str"].value) for entry in Tekkenizer.DEPRECATED_SPECIAL_TOKENS]  # type: ignore[attr-defined]  # an enum
    names += _NEW_MARKS
    data["special_tokens"] = [{"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"tekken_{version}.json"
        path.write_text(json.dumps(data))
        return cast("Any", MistralTokenizer).from_file(str(path))  # generic over types that it does not name


def published_text(version: str, messages: Sequence[ChatMessage], tools: list[Tool]) -> str:
    """What mistral-common writes, special tokens spelled out."""
    request: ChatCompletionRequest[ChatMessage] = ChatCompletionRequest(messages=list(messages), tools=tools)
    encoder = _encoder(version)
    return str(encoder.decode(encoder.encode_chat_completion(request).tokens, SpecialTokenPolicy.KEEP))
