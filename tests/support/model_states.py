"""A model state that counts its holders, for caches of turn states."""


class CountedState:
    """Implements `session.chain.ModelState`. All shares of one state count together."""

    def __init__(self, size_bytes: int = 0, family: "list[int] | None" = None) -> None:
        self.size_bytes = size_bytes
        self.token_count = size_bytes // 4
        self._family = [0, 0] if family is None else family  # holders, holders of KV
        self._family[0] += 1
        self._family[1] += 1
        self._has_kv = True
        self.released = 0  # how often

    @property
    def holders(self) -> int:
        return self._family[0]

    @property
    def kv_holders(self) -> int:
        return self._family[1]

    def share(self) -> "CountedState":
        assert not self.released, "shared after it was released"
        share = CountedState(self.size_bytes, self._family)
        if not self._has_kv:
            share.release_kv()
        return share

    def release_kv(self) -> None:
        if self._has_kv:
            self._has_kv = False
            self._family[1] -= 1

    def release(self) -> None:
        self.release_kv()
        if not self.released:
            self._family[0] -= 1
        self.released += 1
