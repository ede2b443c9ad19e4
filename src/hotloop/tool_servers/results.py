"""What MCP answers, as this server's items show it. Pure.

A tool's result is text for a model: other content is named, not carried.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp.types import (
    AudioContent,
    CallToolResult,
    ContentBlock,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
    Tool,
)

from hotloop.protocol.wire import json_bytes
from hotloop.seams.hosted_tools import CallOutcome, OfferedTool

REQUEST_TIMEOUT = -32001  # as the MCP SDKs use it
SERVER_GONE = -32000
_MESSAGE_CHARS = 500


def outcome_of(result: CallToolResult, max_bytes: int) -> CallOutcome:
    """The text of a result; the error it says it is; or an error where it is longer than `max_bytes`."""
    text = text_of(result.content)
    if not text and result.structured_content is not None:
        text = json_bytes(result.structured_content).decode()
    encoded = text.encode("utf-8", "replace")
    text, size = encoded.decode(), len(encoded)
    if size > max_bytes:
        return failure(f"the tool's output of {size} bytes is longer than the {max_bytes} allowed; ask for less")
    if result.is_error:
        content = [{"type": "text", "text": text}]
        return CallOutcome(error={"type": "mcp_tool_execution_error", "content": content})
    return CallOutcome(output=text)


def text_of(content: Sequence[ContentBlock]) -> str:
    """The text of content blocks, each on a line of its own."""
    return "\n".join(map(_block_text, content))


def _block_text(block: ContentBlock) -> str:
    match block:
        case TextContent():
            return block.text
        case EmbeddedResource(resource=TextResourceContents() as resource):
            return resource.text
        case ImageContent() | AudioContent():
            return f"[{block.mime_type}, not shown]"
        case ResourceLink():
            return f"[{block.uri}]"
        case _:
            return f"[{block.resource.uri}, not shown]"


def failure(message: str, code: int = SERVER_GONE) -> CallOutcome:
    """An error of the protocol or of the connection."""
    return CallOutcome(error={"type": "mcp_protocol_error", "code": code, "message": _short(message)})


def failure_of(error: MCPError) -> CallOutcome:
    """What the server, or the way to it, answered instead of a result."""
    match error.data:
        case {"http_status": int(status)}:
            pass
        case _:
            return failure(error.message, error.code)
    return CallOutcome(error={"type": "http_error", "code": status, "message": _short(error.message)})


def _short(message: str) -> str:
    return message[:_MESSAGE_CHARS].encode("utf-8", "replace").decode()


def offered_tool(tool: Tool) -> OfferedTool:
    """A tool without what no model is told."""
    annotations: Mapping[str, Any] | None = None
    if tool.annotations is not None:
        annotations = tool.annotations.model_dump(by_alias=True, exclude_none=True, mode="json")
    return OfferedTool(tool.name, tool.description, tool.input_schema, annotations)
