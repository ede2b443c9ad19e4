"""What is read of the items of tools that this server runs; `hosted_items` reads and writes them."""

from typing import Any, Literal

import msgspec

CallStatus = Literal["in_progress", "calling", "completed", "incomplete", "failed"]


class HostedCall(msgspec.Struct, frozen=True, kw_only=True):
    """An `mcp_call`."""

    server_label: str
    name: str
    arguments: str
    id: str | None = None
    status: CallStatus | None = None
    approval_request_id: str | None = None
    output: str | None = None
    error: dict[str, Any] | str | None = None  # older clients know it as a text


class ApprovalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """An `mcp_approval_request`: a call that waits for consent."""

    id: str
    server_label: str
    name: str
    arguments: str


class ApprovalResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An `mcp_approval_response`."""

    approval_request_id: str
    approve: bool
    id: str | None = None
    reason: str | None = None
