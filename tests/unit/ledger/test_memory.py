from hotloop.ledger.memory import MemoryLedger
from hotloop.seams.ledger import AttemptEnded, AttemptStarted
from hotloop.session.principal import LOCAL


def test_only_the_newest_rows_are_kept_and_a_late_end_of_a_lost_one_is_no_matter() -> None:
    ledger = MemoryLedger(max_rows=2)
    for name in ("a", "b", "c"):
        ledger.attempt_started(AttemptStarted(name, name, LOCAL, "", "m", 1.0))
    ledger.attempt_ended(AttemptEnded("a", "a", "completed", 0, 0, 0, 2.0))
    assert [row.started.event_id for row in ledger.rows()] == ["b", "c"]
