"""Stored responses in memory: real, bounded in bytes, gone with the process."""

from collections import OrderedDict

from hotloop.errors import StorageUnavailable
from hotloop.seams.store import StoredResponse
from hotloop.session.principal import Principal, Tenant


class MemoryStore:
    """Keeps the newest responses of all tenants within `max_bytes`, oldest use first out.

    Args:
        max_bytes: bound of the responses kept, each with the input that was new in it.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._responses: OrderedDict[tuple[Tenant, str], StoredResponse] = OrderedDict()

    @property
    def total_bytes(self) -> int:
        """Bytes accounted."""
        return self._bytes

    async def put(self, principal: Principal, response: StoredResponse) -> None:
        """Make it visible, pushing out the oldest."""
        size = response.size_bytes
        if size > self._max_bytes:
            raise StorageUnavailable(f"The response is larger than the store ({self._max_bytes} bytes).")
        key = (principal.tenant, response.response_id)
        self._forget(key)
        self._responses[key] = response
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._responses)))

    async def get(self, principal: Principal, response_id: str) -> StoredResponse | None:
        """The response, or None."""
        key = (principal.tenant, response_id)
        response = self._responses.get(key)
        if response is not None:
            self._responses.move_to_end(key)
        return response

    async def delete(self, principal: Principal, response_id: str) -> bool:
        """Forget it; False if there was none."""
        return self._forget((principal.tenant, response_id))

    async def close(self) -> None:
        """Nothing to flush."""

    def _forget(self, key: tuple[Tenant, str]) -> bool:
        response = self._responses.pop(key, None)
        if response is None:
            return False
        self._bytes -= response.size_bytes
        return True
