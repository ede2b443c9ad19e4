"""Sealing what clients carry but must neither read nor change (docs/protocol.md §4.5, §7.4)."""

from typing import Literal, Protocol

from hotloop.session.principal import Tenant

SealedKind = Literal["reasoning", "compaction"]


class Sealer(Protocol):
    """Authenticated encryption. A sealed text holds all that is needed to open it, but the key."""

    def seal(self, tenant: Tenant, kind: SealedKind, text: str) -> str:
        """The text, sealed for this tenant and this use, as ASCII without characters that JSON escapes."""
        ...

    def open(self, tenant: Tenant, kind: SealedKind, sealed: str) -> str | None:
        """The text again. None if it was changed, is another tenant's, has another use, or its key is not there any more."""
        ...
