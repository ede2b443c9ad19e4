"""Conversations in a turn's path: one writer at a time (docs/protocol.md §11.4).

A turn holds its conversation from admission to its end. A second one meanwhile is refused with 409: it would have to guess
what the first is going to append.
"""

from hotloop.errors import ConversationLocked
from hotloop.session.principal import Principal, Tenant


class ConversationLocks:
    """The conversations that are being written into, in this process."""

    def __init__(self) -> None:
        self._held: set[tuple[Tenant, str]] = set()

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, principal: Principal, conversation_id: str) -> "ConversationHold":
        """Take the conversation. Raises ConversationLocked."""
        key = (principal.tenant, conversation_id)
        if key in self._held:
            raise ConversationLocked
        self._held.add(key)
        return ConversationHold(self._held, key)


class ConversationHold:
    """A conversation taken. Let go with `release`."""

    def __init__(self, held: set[tuple[Tenant, str]], key: tuple[Tenant, str]) -> None:
        self._held = held
        self._key: tuple[Tenant, str] | None = key

    def release(self) -> None:
        """Let go. Idempotent."""
        if self._key is not None:
            self._held.discard(self._key)
            self._key = None
