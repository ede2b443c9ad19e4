import asyncio

import pytest

from hotloop.server.replay import Lagged, ReplayLog

SILENCE_S = 60.0


async def read(log: ReplayLog[bytes], start: int = 0) -> list[bytes]:
    return [entry async for batch in log.follow(start, SILENCE_S) for entry in batch]


def log_of(*entries: bytes, max_bytes: int = 1000) -> ReplayLog[bytes]:
    log: ReplayLog[bytes] = ReplayLog(max_bytes, len)
    for entry in entries:
        log.append(entry)
    return log


async def test_what_was_written_is_read_from_any_number_on() -> None:
    log = log_of(b"a", b"b", b"c")
    log.finish()
    assert await read(log) == [b"a", b"b", b"c"]
    assert await read(log, 2) == [b"c"]
    assert await read(log, 3) == []


async def test_followers_get_what_comes_while_they_read_and_end_with_the_log() -> None:
    log = log_of(b"a")
    followers = [asyncio.create_task(read(log, start)) for start in (0, 1, 2)]
    for entry in (b"b", b"c"):
        await asyncio.sleep(0)
        log.append(entry)
    log.append(b"d")
    log.finish()
    async with asyncio.timeout(5):
        assert await asyncio.gather(*followers) == [[b"a", b"b", b"c", b"d"], [b"b", b"c", b"d"], [b"c", b"d"]]


async def test_silence_is_an_empty_batch() -> None:
    batches = log_of(b"a").follow(0, 0.001)
    assert [await anext(batches), await anext(batches)] == [[b"a"], ()]
    await batches.aclose()


async def test_over_the_bound_the_oldest_go_and_numbers_stay() -> None:
    log = log_of(*[b"x" * 10] * 20, max_bytes=100)
    assert log.size_bytes <= 100
    assert log.end == 20
    assert log.first > 9
    log.finish()
    assert len(await read(log, log.first)) == 20 - log.first
    with pytest.raises(Lagged):
        await read(log, log.first - 1)


async def test_an_entry_over_the_bound_is_kept_until_the_next() -> None:
    log = log_of(b"x" * 200, max_bytes=100)
    assert (log.first, log.end) == (0, 1)
    log.append(b"y")
    assert (log.first, log.end) == (1, 2)
