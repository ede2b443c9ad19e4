"""The process in which long messages are read, with real processes: whatever happens to it, the server goes on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import msgspec
import pytest

from hotloop.decoding import reader as module
from hotloop.decoding.forms import CONVERSATION, CREATE
from hotloop.decoding.reader import UNAVAILABLE, MessageReader
from hotloop.errors import ApiError, InvalidRequest, InvalidType, MissingParameter, Overloaded, PayloadTooLarge
from hotloop.protocol.request import decode_item
from hotloop.seams.surveyor import Surveyed

ITEM = b'{"role":"user","content":"hello"}'


def create(*items: bytes) -> bytes:
    return b'{"type":"response.create","model":"m","tools":[{"type":"x"}],"input":[%b],"store":false}' % b",".join(
        items
    )


@pytest.fixture
async def reader() -> AsyncIterator[MessageReader]:
    made = MessageReader(2**24, long_bytes=1)
    yield made
    await made.close()


async def test_a_create_comes_back_with_its_items(reader: MessageReader) -> None:
    read = await reader.create(create(ITEM, ITEM))
    assert bytes(read.request.tools) == b'[{"type":"x"}]'
    assert read.request.store is False
    assert read.survey is not None and read.survey.raw is read.request.input
    assert [bytes(item) for item in read.survey.items()] == [ITEM, ITEM]
    assert read.fallbacks == ()


async def test_a_refusal_is_the_one_of_the_server_itself(reader: MessageReader) -> None:
    with pytest.raises(InvalidType) as refused:
        await reader.create(b'{"model":7}')
    assert refused.value.param == "model"
    event = await reader.event(b'{"type":"response.create","stream_id":"lane"}')
    assert isinstance(event.event.error, MissingParameter) and event.event.lane == "lane"


async def test_a_short_message_asks_nobody() -> None:
    reader = MessageReader(2**24)
    assert not reader.is_long(create(ITEM))
    assert (await reader.create(create(ITEM))).survey is None
    assert reader.pids == []


async def test_many_at_once_are_each_answered_with_their_own(reader: MessageReader) -> None:
    bodies = [create(*[ITEM] * count) for count in range(20)]
    found = await asyncio.gather(*map(reader.create, bodies))
    assert [0 if one.survey is None else len(one.survey) for one in found] == list(range(20))
    assert len(reader.pids) <= module.CHILDREN


async def test_a_process_that_died_while_it_was_idle_is_replaced(reader: MessageReader) -> None:
    await reader.create(create(ITEM))
    (pid,) = reader.pids
    os.kill(pid, signal.SIGKILL)
    read = await reader.create(create(ITEM))
    assert read.survey is not None and read.fallbacks == ()
    assert pid not in reader.pids


async def test_a_process_killed_at_work_is_replaced_and_the_message_read(reader: MessageReader) -> None:
    await reader.create(create(ITEM))
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)
    reading = asyncio.create_task(reader.create(create(ITEM)))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    assert (await reading).survey is not None


async def test_a_process_that_hangs_is_killed_at_the_deadline(reader: MessageReader) -> None:
    await reader.create(create(ITEM))
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)
    reader._deadline_s = 0.0
    with pytest.raises(PayloadTooLarge):
        await reader.create(create(ITEM))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    reader._deadline_s = module.DEADLINE_S
    assert (await reader.create(create(ITEM))).survey is not None


async def test_a_message_that_takes_too_much_memory_is_refused_and_the_next_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BASE_MEMORY_BYTES", 2**28)
    reader = MessageReader(1, long_bytes=1)  # no memory for the message
    try:
        with pytest.raises(PayloadTooLarge):
            await reader.create(create(*[b"{}"] * 6_000_000))
        assert (await reader.create(create(ITEM))).survey is not None
    finally:
        await reader.close()


async def test_without_a_process_the_server_reads_and_says_so(
    reader: MessageReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    read = await reader.create(create(ITEM))
    assert read.request.model == "m" and read.fallbacks == (UNAVAILABLE,)
    event = await reader.event(create(ITEM))
    assert event.event.request is not None and event.fallbacks == (UNAVAILABLE,)


async def test_too_many_bytes_waiting_are_refused(reader: MessageReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 150)
    found = await asyncio.gather(*(reader.create(create(ITEM)) for _ in range(5)), return_exceptions=True)
    refused = [one for one in found if isinstance(one, ApiError)]
    assert len(refused) == 4 and all(isinstance(one, Overloaded) for one in refused)


async def test_a_cancelled_reading_ends_its_process(reader: MessageReader) -> None:
    await reader.create(create(ITEM))
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)
    reading = asyncio.create_task(reader.create(create(ITEM)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_input_that_was_put_together_is_surveyed(reader: MessageReader) -> None:
    raw = msgspec.Raw(b"[%b , %b,{}]" % (ITEM, ITEM))
    found = await reader.survey(raw)
    assert found.survey is not None and found.survey.raw is raw
    assert [bytes(item) for item in found.survey.items()] == [ITEM, ITEM]
    assert isinstance(found.survey.error, MissingParameter) and found.survey.error.param == "input[2].role"
    (pid,) = reader.pids
    os.kill(pid, signal.SIGSTOP)
    reading = asyncio.create_task(reader.survey(raw))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    again = (await reading).survey
    assert again is not None and again.ends == found.survey.ends


async def test_a_short_input_is_left_to_who_asks() -> None:
    reader = MessageReader(2**24)
    assert await reader.survey(msgspec.Raw(b"[]")) == Surveyed()
    assert reader.pids == []


async def test_an_item_that_takes_long_to_decode_comes_back_read(reader: MessageReader) -> None:
    bulk = b"[%b]" % b",".join([b"{}"] * 100_000)
    item = b'{"role":"assistant","content":[{"type":"output_text","text":"x","annotations":%b}]}' % bulk
    body = create(ITEM, item)
    for survey in (
        (await reader.create(body)).survey,
        (await reader.survey(msgspec.Raw(b"[%b,%b]" % (ITEM, item)))).survey,
        (await reader.conversation(CONVERSATION, b'{"items":[%b,%b]}' % (ITEM, item))).survey,
    ):
        assert survey is not None
        short, long = survey.items()
        read = survey.read_item(1, long)
        assert survey.read_item(0, short) is None
        assert read == decode_item(item, "")


async def test_what_nobody_asks_for_of_a_create_stays_behind(reader: MessageReader) -> None:
    told = await reader._ask(CREATE, b'{"model":"m","reasoning":{"effort":"low","odd":[{},{}]},"odd":[{},{}]}')
    assert told is not None and b"odd" not in bytes(told.head)


async def test_a_choice_of_tools_that_is_longer_than_all_their_names_is_refused(reader: MessageReader) -> None:
    body = b'{"model":"m","tool_choice":{"type":"function","odd":"%b"}}' % (b"x" * 2**20)
    for read in (reader.create(body), MessageReader(2**24, long_bytes=2**30).create(body)):
        with pytest.raises(InvalidRequest) as refused:
            await read
        assert refused.value.param == "tool_choice"
