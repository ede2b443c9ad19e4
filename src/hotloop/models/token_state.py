"""What a turn keeps of a chain that we render for."""

import weakref
from typing import TYPE_CHECKING

import msgspec

from hotloop.models.kv_lease import KvLease
from hotloop.seams.engine import Constraint, Sampling
from hotloop.seams.format import RenderState
from hotloop.seams.model import SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.token_log import TokenView

if TYPE_CHECKING:
    from hotloop.models.token_model import TokenModel


class TurnSetup(msgspec.Struct, frozen=True, eq=False):
    """What follows from a request beside its items: turns of a chain share it as long as they ask for the same."""

    context: PromptContext
    rules: CallRules
    wishes: SamplingWishes
    constraint: Constraint | None  # built of these, and judged
    sampling: Sampling  # all but `max_tokens`, which is 0


class TokenState(msgspec.Struct, eq=False):
    """What a turn keeps of its chain: the token log's view, the format's state, a share of the KV lease (or None).

    Without a share it remembers who has the KV of its chain, its `kin`: a fork of that lease shares the chain's beginning.
    """

    model: "TokenModel"
    setup: TurnSetup
    view: TokenView
    render_state: RenderState
    lease: KvLease | None
    kin_reference: "weakref.ref[KvLease] | None"
    size_bytes: int = 0

    @property
    def kin(self) -> KvLease | None:
        """The lease that holds KV of this chain, whoever keeps it open."""
        kin = self.kin_reference() if self.kin_reference is not None else None
        return kin if kin is not None and kin.is_open else None

    @property
    def token_count(self) -> int:
        """Tokens of the chain."""
        return self.view.length

    def share(self) -> "TokenState":
        """The same for one more holder."""
        lease = self.lease
        if lease is not None:
            lease.retain()
        return TokenState(self.model, self.setup, self.view, self.render_state, lease, self.kin_reference)

    def release_kv(self) -> None:
        """Keep the tokens only. Idempotent."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()

    def release(self) -> None:
        """Let go of the lease. Idempotent."""
        self.release_kv()
