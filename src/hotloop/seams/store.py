"""Where `store: true` responses live beyond their connection."""

from dataclasses import dataclass
from typing import Protocol

from hotloop.session.chain import OpenCalls
from hotloop.session.item_log import ItemLog
from hotloop.session.principal import Principal


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """Everything needed to show a response and to continue it."""

    response_id: str
    model: str
    created_at: int
    body: bytes  # the response object
    items: ItemLog  # all input and output of its chain, up to and with this response
    new_input: int  # how many of the items before its output were new in this turn
    output: int  # how many of the last items are its output
    open_calls: OpenCalls
    size_bytes: int  # of the body and the new input; older items belong to the responses before it
    continuable: bool  # a failed response can be shown but not continued


class ResponseStore(Protocol):
    """Stored responses by tenant and id. Reads never show what another tenant stored."""

    async def put(self, principal: Principal, response: StoredResponse) -> None:
        """Make it visible. Raises StorageUnavailable if it cannot be kept; then nothing of it is visible."""
        ...

    async def get(self, principal: Principal, response_id: str) -> StoredResponse | None:
        """The response, or None."""
        ...

    async def delete(self, principal: Principal, response_id: str) -> bool:
        """Forget it; False if there was none."""
        ...

    async def close(self) -> None:
        """Flush and let go. Idempotent."""
        ...
