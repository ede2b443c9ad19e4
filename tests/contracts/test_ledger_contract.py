"""What every `seams.ledger.UsageLedger` promises: append-only, idempotent by event id."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from hotloop.ledger.memory import LedgerRow, MemoryLedger
from hotloop.seams.ledger import AttemptEnded, AttemptStarted
from hotloop.session.principal import LOCAL

# Each ledger with a way to read it back; reading is not part of the seam.
LEDGERS: list[Callable[[], MemoryLedger]] = [MemoryLedger]
STARTED = AttemptStarted("e", "resp_1", LOCAL, "key", "m", 1.0)
ENDED = AttemptEnded("e", "resp_1", "completed", 10, 4, 3, 2.0)


@pytest.mark.parametrize("make", LEDGERS)
def test_an_attempt_is_one_row_from_its_start_to_its_end(make: Callable[[], MemoryLedger]) -> None:
    ledger = make()
    ledger.attempt_started(STARTED)
    assert ledger.rows() == [LedgerRow(STARTED)]
    ledger.attempt_ended(ENDED)
    assert ledger.rows() == [LedgerRow(STARTED, ENDED)]


@pytest.mark.parametrize("make", LEDGERS)
def test_repeating_an_event_changes_nothing(make: Callable[[], MemoryLedger]) -> None:
    ledger = make()
    for _ in range(2):
        ledger.attempt_started(STARTED)
    ledger.attempt_ended(ENDED)
    ledger.attempt_ended(replace(ENDED, outcome="failed", output_tokens=99))
    ledger.attempt_started(replace(STARTED, model="other"))
    assert ledger.rows() == [LedgerRow(STARTED, ENDED)]


@pytest.mark.parametrize("make", LEDGERS)
def test_attempts_stay_in_the_order_they_began(make: Callable[[], MemoryLedger]) -> None:
    ledger = make()
    events = [replace(STARTED, event_id=str(number)) for number in range(5)]
    for event in events:
        ledger.attempt_started(event)
    assert [row.started for row in ledger.rows()] == events
