import os
import time
from pathlib import Path

import pytest

from hotloop.bench.cpu import cpu_seconds, parse_ps_time, pinned, settled_cpu_seconds, usable_cores


def test_every_thread_of_the_process_counts(tmp_path: Path) -> None:
    for thread, nanoseconds in (("7", 1_500_000_000), ("8", 250_000_000)):
        task = tmp_path / "7" / "task" / thread
        task.mkdir(parents=True)
        (task / "schedstat").write_text(f"{nanoseconds} 991 12\n")
    assert cpu_seconds(7, tmp_path) == pytest.approx(1.75)


def test_work_of_the_process_shows() -> None:
    before = cpu_seconds(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    assert 0.04 < cpu_seconds(os.getpid()) - before < 5


def test_without_the_kernels_own_accounting_ps_is_asked(tmp_path: Path) -> None:
    assert cpu_seconds(os.getpid(), tmp_path) >= 0


def test_a_reading_comes_even_from_a_process_that_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.bench.cpu._SETTLE_LIMIT_S", 0.01)
    assert settled_cpu_seconds(os.getpid()) > 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("00:07", 7), ("01:02:03\n", 3723), ("2-00:00:01", 172_801), ("  3:04.56", 184.56)],
)
def test_both_spellings_of_ps_are_read(text: str, seconds: float) -> None:
    assert parse_ps_time(text) == pytest.approx(seconds)


def test_a_block_runs_on_its_core_and_the_rest_where_it_ran_before() -> None:
    before = usable_cores()
    if not before:
        pytest.skip("this system does not say where a process runs")
    with pinned(before[-1]):
        assert usable_cores() == [before[-1]]
    with pinned(None):
        assert usable_cores() == before
    assert usable_cores() == before
