"""Equal JSON texts as one object, so that what was worked out for one is found again by identity.

An agent's creates bring the same `tools` each time: comparing 17 kB with those of the create before is one memcmp (1 µs),
while decoding them, or only hashing them, costs ten times that.
"""

from collections import OrderedDict

import msgspec

ENTRY_BYTES = 256  # around a text: key, view, place in the table


class RawTexts:
    """Texts of all connections; the least recently looked up goes first, bounded in bytes.

    A text over the bound of one entry is not kept: it stays the view that it came as.
    """

    def __init__(self, max_bytes: int = 16 * 2**20, max_text_bytes: int = 2**20) -> None:
        self._max_bytes = max_bytes
        self._max_text_bytes = max_text_bytes
        self._texts: OrderedDict[bytes, msgspec.Raw] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._texts)

    def same(self, raw: msgspec.Raw, last: msgspec.Raw | None = None) -> msgspec.Raw:
        """The object that stands for this text; `last` itself if it is equal to that, which costs the comparison only."""
        if last is not None and raw == last:
            return last
        if memoryview(raw).nbytes > self._max_text_bytes:
            return raw
        text = bytes(raw)
        found = self._texts.get(text)
        if found is not None:
            self._texts.move_to_end(text)
            return found
        found = self._texts[text] = msgspec.Raw(text)
        self.size_bytes += len(text) + ENTRY_BYTES
        while self.size_bytes > self._max_bytes and len(self._texts) > 1:
            oldest, _ = self._texts.popitem(last=False)
            self.size_bytes -= len(oldest) + ENTRY_BYTES
        return found
