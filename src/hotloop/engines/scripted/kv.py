"""The KV cache a scripted engine pretends to have: what each chain holds, and closed chains kept for reuse."""

from array import array
from collections import OrderedDict

from hotloop.session.principal import Tenant

_ITEM_BYTES = array("I").itemsize
_LOOK_BYTES = 1024 * _ITEM_BYTES


class KvPool:
    """Closed chains of all tenants, least recently used last to be found, bounded in tokens.

    Args:
        max_tokens: tokens kept over all chains.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokens = 0
        self._chains: OrderedDict[tuple[Tenant, bytes], None] = OrderedDict()

    @property
    def held_tokens(self) -> int:
        """Tokens held now."""
        return self._tokens

    def put(self, tenant: Tenant, ids: "array[int]") -> None:
        """Keep a closed chain."""
        key = (tenant, ids.tobytes())
        if not ids or key in self._chains:
            return
        self._chains[key] = None
        self._tokens += len(ids)
        while self._tokens > self._max_tokens:
            self._drop(next(iter(self._chains)))

    def take(self, tenant: Tenant, ids: "array[int]") -> int:
        """Tokens at the start of `ids` that some closed chain of the tenant holds. A chain used up whole moves out."""
        wanted = ids.tobytes()
        best, best_key = 0, None
        for key in self._chains:
            if key[0] == tenant and len(key[1]) > best * _ITEM_BYTES:
                shared = common_prefix(key[1], wanted)
                if shared > best:
                    best, best_key = shared, key
        if best_key is not None:
            if best * _ITEM_BYTES == len(best_key[1]):
                self._drop(best_key)
            else:
                self._chains.move_to_end(best_key)
        return best

    def clear(self) -> None:
        """Forget everything."""
        self._chains.clear()
        self._tokens = 0

    def _drop(self, key: tuple[Tenant, bytes]) -> None:
        del self._chains[key]
        self._tokens -= len(key[1]) // _ITEM_BYTES


def common_prefix(left: bytes, right: bytes) -> int:
    """Tokens that two chains, given as bytes of their arrays, share from the start."""
    if right.startswith(left):
        return len(left) // _ITEM_BYTES
    size = min(len(left), len(right))
    low, stop = 0, _LOOK_BYTES
    while stop < size and left[low:stop] == right[low:stop]:  # twice as far each time: it costs what is shared
        low, stop = stop, 2 * stop
    low, high = low // _ITEM_BYTES, min(stop, size) // _ITEM_BYTES
    while low < high:  # by halves: comparing bytes costs next to nothing
        middle = (low + high + 1) // 2
        start, stop = low * _ITEM_BYTES, middle * _ITEM_BYTES
        if left[start:stop] == right[start:stop]:
            low = middle
        else:
            high = middle - 1
    return low
