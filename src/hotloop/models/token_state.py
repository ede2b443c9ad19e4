"""What a turn keeps of a chain that we render for."""

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from hotloop.models.kv_lease import KvLease
from hotloop.seams.format import RenderState
from hotloop.seams.prompt import PromptContext
from hotloop.session.token_log import TokenView

if TYPE_CHECKING:
    from hotloop.models.token_model import TokenModel


class TokenState:
    """What a turn keeps of its chain: the token log's view, the format's state, a share of the KV lease (or None).

    Without a share it remembers who has the KV of its chain, its `kin`: a fork of that lease shares the chain's beginning.
    """

    def __init__(
        self,
        model: "TokenModel",
        context: PromptContext,
        view: TokenView,
        render_state: RenderState,
        lease: KvLease | None,
        kin: KvLease | None = None,
    ) -> None:
        self.model = model
        self.context = context
        self.view = view
        self.render_state = render_state
        self.lease = lease
        self.size_bytes = 0
        self._kin = _weak(lease or kin)

    @property
    def kin(self) -> KvLease | None:
        """The lease that holds KV of this chain, whoever keeps it open."""
        kin = self._kin()
        return kin if kin is not None and kin.is_open else None

    @property
    def token_count(self) -> int:
        """Tokens of the chain."""
        return len(self.view)

    def share(self) -> "TokenState":
        """The same for one more holder."""
        if self.lease is not None:
            self.lease.retain()
        return TokenState(self.model, self.context, self.view, self.render_state, self.lease, self._kin())

    def release_kv(self) -> None:
        """Keep the tokens only. Idempotent."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()

    def release(self) -> None:
        """Let go of the lease. Idempotent."""
        self.release_kv()


def _weak(lease: KvLease | None) -> "Callable[[], KvLease | None]":
    return (lambda: None) if lease is None else weakref.ref(lease)
