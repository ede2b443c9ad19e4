"""What only the validator with children promises: bombs die there, and nothing is asked twice."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hotloop.constraints import validator as module
from hotloop.constraints.validator import ChildValidator
from hotloop.errors import Overloaded

GOOD = 'start: "a"'
# 100,000 rules: 20 s of compiling
SLOW = "start: " + " | ".join(f"r{n}" for n in range(100_000)) + "\n" + "\n".join(
    f'r{n}: "tool{n}" %json {{"type": "object"}}' for n in range(100_000)
)  # fmt: skip


@pytest.fixture
async def validator() -> AsyncIterator[ChildValidator]:
    child = ChildValidator(1000)
    yield child
    await child.close()


async def test_a_child_takes_no_code_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "resource.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    validator = ChildValidator(1000)
    try:
        assert await validator.check([GOOD]) is None
    finally:
        await validator.close()


async def test_a_bomb_is_over_at_the_deadline_and_named(validator: ChildValidator) -> None:
    await validator.check([GOOD])  # a child is ready
    loop = asyncio.get_running_loop()
    before = loop.time()
    problem = await validator.check([GOOD, SLOW, 'start: "b"'])
    assert loop.time() - before < 30  # 2 s and what a busy machine adds; the bomb itself takes longer
    assert problem is not None and problem.index == 1 and problem.is_too_complex
    started = validator.children_started
    assert await validator.check([SLOW]) is not None  # remembered
    assert validator.children_started == started or await validator.check([GOOD]) is None


async def test_the_server_goes_on_while_a_bomb_burns(validator: ChildValidator) -> None:
    await validator.check([GOOD])
    bomb = asyncio.create_task(validator.check([SLOW]))
    await asyncio.sleep(0)
    assert await validator.check(['start: "c"']) is None  # on another child
    assert not bomb.done()
    problem = await bomb
    assert problem is not None and problem.is_too_complex


async def test_a_grammar_that_eats_memory_ends_with_its_child() -> None:
    validator = ChildValidator(1000, memory_bytes=200 * 2**20, deadline_s=60)
    try:
        problem = await validator.check([GOOD, SLOW])
        assert problem is not None and problem.index == 1 and problem.is_too_complex
        assert await validator.check([GOOD, 'start: "d"']) is None
    finally:
        await validator.close()


async def test_a_known_grammar_asks_nobody(validator: ChildValidator) -> None:
    assert await validator.check([GOOD]) is None
    await validator.close()
    assert await validator.check([GOOD]) is None


async def test_a_child_that_died_in_between_is_replaced(validator: ChildValidator) -> None:
    assert await validator.check([GOOD]) is None
    (child,) = validator._pool._idle
    os.kill(child.pid, signal.SIGKILL)
    await child.ended()
    assert await validator.check(['start: "e"']) is None


async def test_the_first_question_takes_the_child_that_starts_anyway(validator: ChildValidator) -> None:
    validator.start()
    assert validator.pids == []
    assert await validator.check([GOOD]) is None
    assert validator.children_started == 1
    assert len(validator.pids) == 1


async def test_who_waits_for_the_child_that_starts_may_leave_it_to_the_next(validator: ChildValidator) -> None:
    validator.start()
    waiting = asyncio.create_task(validator.check([GOOD]))
    await asyncio.sleep(0)
    assert waiting.cancel()
    await asyncio.wait({waiting})
    assert await validator.check([GOOD]) is None
    assert validator.children_started == 1


async def test_two_questions_at_once_have_a_child_each(validator: ChildValidator) -> None:
    validator.start()
    problems = await asyncio.gather(validator.check([GOOD]), validator.check(['start: "f"']))
    assert [*problems] == [None, None]
    assert validator.children_started == len(validator.pids) == 2


async def test_a_child_that_does_not_start_is_tried_again_by_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    validator = ChildValidator(1000)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        validator.start()
        await validator.ready()
        assert validator.pids == []
        validator.start()
        with pytest.raises(OSError, match="nowhere"):
            await validator.check([GOOD])
        assert validator.children_started == 3
    try:
        assert await validator.check([GOOD]) is None
    finally:
        await validator.close()


async def test_a_start_is_over_with_the_validator(validator: ChildValidator) -> None:
    validator.start()
    await asyncio.sleep(0)
    await validator.close()
    await validator.ready()
    assert validator.pids == []


async def test_one_too_many_waiting_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 0)
    validator = ChildValidator(1000)
    with pytest.raises(Overloaded):
        await validator.check([GOOD])


async def test_no_more_verdicts_are_kept_than_allowed(
    validator: ChildValidator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "VERDICTS_KEPT", 3)
    await validator.check([f'start: "{n}"' for n in range(10)])
    assert len(validator._verdicts) == 3


async def test_a_verdict_by_the_clock_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_REMEMBERED_S", -1.0)
    validator = ChildValidator(1000, deadline_s=0.0)
    try:
        problem = await validator.check([GOOD])
        assert problem is not None and problem.is_too_complex
        validator._deadline_s = 60
        assert await validator.check([GOOD]) is None
    finally:
        await validator.close()


async def test_cancelling_a_check_ends_its_child(validator: ChildValidator) -> None:
    await validator.check([GOOD])
    task = asyncio.create_task(validator.check([SLOW]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await validator.check(['start: "f"']) is None
