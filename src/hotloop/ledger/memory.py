"""The usage ledger in memory: the newest attempts, gone with the process."""

from collections import OrderedDict

import msgspec

from hotloop.seams.ledger import AttemptEnded, AttemptStarted


class LedgerRow(msgspec.Struct):
    """One attempt. `ended` is None while it runs."""

    started: AttemptStarted
    ended: AttemptEnded | None = None


class MemoryLedger:
    """Keeps the last `max_rows` attempts."""

    def __init__(self, max_rows: int = 10_000) -> None:
        self._max_rows = max_rows
        self._rows: OrderedDict[str, LedgerRow] = OrderedDict()

    def attempt_started(self, event: AttemptStarted) -> None:
        """Note the start. A repeated event id changes nothing."""
        if event.event_id in self._rows:
            return
        self._rows[event.event_id] = LedgerRow(event)
        while len(self._rows) > self._max_rows:
            self._rows.popitem(last=False)

    def attempt_ended(self, event: AttemptEnded) -> None:
        """Note the end. A repeated event id, or one whose start was pushed out, changes nothing."""
        row = self._rows.get(event.event_id)
        if row is not None and row.ended is None:
            row.ended = event

    def rows(self) -> list[LedgerRow]:
        """All attempts kept, oldest first."""
        return list(self._rows.values())
