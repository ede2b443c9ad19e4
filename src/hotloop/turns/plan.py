"""On which items a turn is going to be sampled: those of its chain, or fewer (docs/protocol.md §7, §2.1).

compaction_failed    the context is over its threshold, but the model gave no summary: the turn runs on all of it
truncated            `truncation: auto` left the oldest items out
"""

from collections.abc import Callable

import msgspec

from hotloop.errors import CompactionFailed, ContextLengthExceeded, ServerFault
from hotloop.protocol.items import Compaction, Item
from hotloop.seams.model import PreparedTurn
from hotloop.seams.sealer import Sealer
from hotloop.session.principal import Tenant
from hotloop.turns.admission import AdmittedTurn
from hotloop.turns.compaction import (
    KEPT_CHARS,
    compacted,
    is_asked_for,
    kept_items,
    summarize,
)
from hotloop.turns.sealing import sealed_compaction
from hotloop.turns.truncation import prepare_truncated


class Plan(msgspec.Struct, frozen=True):
    """A turn ready to run. With a `compaction` it runs on the new chain, whose first items were `kept`."""

    admitted: AdmittedTurn
    prepared: PreparedTurn
    fallbacks: tuple[str, ...] = ()
    compaction: Compaction | None = None
    kept: tuple[Item, ...] = ()
    summary_tokens: int = 0  # sampled for it


class Planner:
    """Plans one turn.

    Args:
        watch: gets what can be aborted while a summary is written.
        is_stopped: the turn was ended meanwhile.
    """

    def __init__(
        self,
        sealer: Sealer,
        tenant: Tenant,
        new_id: Callable[[str], str],
        watch: Callable[[PreparedTurn], None],
        is_stopped: Callable[[], bool],
    ) -> None:
        self._sealer = sealer
        self._tenant = tenant
        self._new_id = new_id
        self._watch = watch
        self._is_stopped = is_stopped

    async def plan(self, admitted: AdmittedTurn) -> Plan:
        """Raises CompactionFailed where a compaction was asked for, and what `Model.prepare` raises.

        A turn that is ended meanwhile ends on its chain as it stands.
        """
        if is_asked_for(admitted):
            try:
                return await self._compacted(admitted, admitted.model.context_tokens)
            except CompactionFailed:
                if not self._is_stopped():
                    raise
            return Plan(admitted, await self._prepare(admitted))
        threshold = admitted.terms.compact_threshold
        try:
            prepared = await self._prepare(admitted)
        except ContextLengthExceeded as error:
            return await self._shortened(admitted, threshold, error)
        if threshold is None or prepared.prompt_tokens < threshold:
            return Plan(admitted, prepared)
        prepared.discard()
        try:
            return await self._compacted(admitted, threshold)
        except (ServerFault, ContextLengthExceeded):  # of the compaction: the turn can do without
            return Plan(admitted, await self._prepare(admitted), () if self._is_stopped() else ("compaction_failed",))

    async def _prepare(self, admitted: AdmittedTurn) -> PreparedTurn:
        return await admitted.model.prepare(admitted.model_request(self._tenant))

    async def _shortened(self, admitted: AdmittedTurn, threshold: int | None, error: ContextLengthExceeded) -> Plan:
        if admitted.request.truncation != "auto":
            if threshold is None:
                raise error
            return await self._compacted(admitted, threshold)
        short, prepared = await prepare_truncated(admitted, self._tenant, error)
        return Plan(short, prepared, ("truncated",))

    async def _compacted(self, admitted: AdmittedTurn, threshold: int) -> Plan:
        summary = await summarize(admitted, self._tenant, self._watch)
        item = sealed_compaction(self._sealer, self._tenant, self._new_id("cmp"), summary.text)
        kept = kept_items(
            admitted, min(KEPT_CHARS, threshold)
        )  # a quarter of the threshold, at four characters a token
        new = compacted(admitted, self._tenant, [*kept, item])
        return Plan(
            new, await self._prepare(new), compaction=item, kept=tuple(kept), summary_tokens=summary.usage.output_tokens
        )
