"""Frames as bytes, in any split, checked against the `websockets` library's own codec."""

import os
import sys
import tracemalloc
import zlib
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from hotloop.server.frames import (
    CLOSE,
    INVALID_DATA,
    LONG_FRAME_BYTES,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    TOO_BIG,
    Breach,
    Close,
    FrameReader,
    Message,
    Ping,
    Pong,
    Received,
    close_frame,
    control_frame,
    deflated_frame,
    frame_head,
    is_sendable,
    text_frames,
)
from hotloop.server.unmask import _fastest, unmask, unmask_numpy

LIMIT = 1 << 20
MASK = b"\x1f\x2e\x3d\x4c"


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv1: bool = False) -> bytes:
    head = bytearray(frame_head(fin * 0x80 | rsv1 * 0x40 | opcode, len(payload)))
    head[1] |= 0x80
    return bytes(head) + MASK + unmask_numpy(payload, MASK)


def read(data: bytes, cuts: Sequence[int] = (), *, deflate: bool = False, limit: int = LIMIT) -> list[Received]:
    reader = FrameReader(limit, deflate=deflate)
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [one for start, end in pairwise(bounds) for one in all_of(reader, data[start:end])]


def all_of(reader: FrameReader, data: bytes) -> list[Received]:
    """What is found if nobody stops behind long messages."""
    received = reader.feed(data)
    while reader.is_behind:
        received += reader.feed(b"")
    return received


def breach(received: Sequence[Received]) -> int:
    """The close code of the breach that comes last."""
    assert isinstance(received[-1], Breach)
    return received[-1].code


def test_what_comes_before_a_breach_is_delivered() -> None:
    good = client_frame(TEXT, b"good")
    assert read(good + b"\x81\x02hi")[0] == Message(b"good", is_text=True)


def parsed_by_websockets(data: bytes, extensions: Sequence[PerMessageDeflate] = ()) -> Frame:
    reader = StreamReader()
    reader.feed_data(data)
    parsing = Frame.parse(reader.read_exact, mask=False, extensions=extensions)
    try:
        next(parsing)
    except StopIteration as done:
        frame: Frame = done.value
        return frame
    raise AssertionError("incomplete")


messages = st.one_of(
    st.text(max_size=300).map(lambda text: Message(text.encode(), is_text=True)),
    st.binary(max_size=300).map(lambda data: Message(data, is_text=False)),
    st.binary(max_size=125).map(Ping),
    st.binary(max_size=125).map(Pong),
    st.sampled_from([0, 124, 125, 126, 127, 65535, 65536]).map(lambda size: Message(b"x" * size, is_text=True)),
)


@given(st.lists(messages, max_size=4), st.lists(st.integers(0, 2000), max_size=6), st.data())
def test_any_split_of_any_fragmentation_gives_the_same_messages(
    sent: list[Received], cuts: list[int], data: st.DataObject
) -> None:
    wire = b""
    for one in sent:
        match one:
            case Message():
                parts = fragments(data, one)
                for index, (opcode, payload) in enumerate(parts):
                    wire += client_frame(opcode, payload, fin=index == len(parts) - 1)
                    if index < len(parts) - 1 and data.draw(st.booleans()):
                        wire += client_frame(PONG, b"between")
            case Ping():
                wire += client_frame(PING, one.payload)
            case Pong():
                wire += client_frame(PONG, one.payload)
            case _:
                raise AssertionError(one)
    received = [one for one in read(wire, cuts) if one != Pong(b"between")]
    assert received == [one for one in sent if one != Pong(b"between")]


@given(
    st.lists(st.one_of(st.text(max_size=60), st.text("é𝄞", max_size=20)), min_size=1, max_size=4),
    st.lists(st.integers(0, 600), max_size=12),
    st.booleans(),
    st.booleans(),
)
def test_a_long_frame_gives_the_message_it_holds_in_whatever_pieces_it_comes(
    texts: list[str], cuts: list[int], is_compressed: bool, is_fragmented: bool
) -> None:
    wire, sent = b"", [Message(text.encode(), is_text=True) for text in texts]
    for message in sent:
        payload = compressed(message.data) if is_compressed else message.data
        if is_fragmented:
            wire += client_frame(TEXT, payload[:20], fin=False, rsv1=is_compressed) + client_frame(PING, b"")
            wire += client_frame(0, payload[20:])
        else:
            wire += client_frame(TEXT, payload, rsv1=is_compressed)
    with patch("hotloop.server.frames.LONG_FRAME_BYTES", 5):
        received = read(wire, cuts, deflate=True)
    assert [one for one in received if isinstance(one, Message)] == sent


@pytest.mark.parametrize("at", [0, 70_000, 140_000])
def test_text_that_is_none_is_refused_while_a_long_frame_still_comes(at: int) -> None:
    reader = FrameReader(LIMIT)
    wire = client_frame(TEXT, b"\xc3\xa9" * (at // 2) + b"\xff" + b"x" * (200_000 - at))
    received: list[Received] = []
    for start in range(0, len(wire), 10_000):
        received += reader.feed(wire[start : start + 10_000])
        if received:
            assert start <= at + 10_000
            break
    assert breach(received) == INVALID_DATA


def test_a_long_message_is_held_once() -> None:
    reader, size = FrameReader(64 * LIMIT), 16 * LIMIT
    wire = client_frame(TEXT, b"x" * size)
    tracemalloc.start()
    received = [one for start in range(0, len(wire), 2**18) for one in reader.feed(wire[start : start + 2**18])]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    (message,) = received
    assert isinstance(message, Message) and len(message.data) == size
    assert peak < 1.3 * size


@pytest.mark.parametrize("size", [LONG_FRAME_BYTES, 10 * LONG_FRAME_BYTES])
@pytest.mark.parametrize("cut", [0, 1, 7, 40])
def test_what_few_bytes_inflate_to_comes_one_message_at_a_time(size: int, cut: int) -> None:
    reader = FrameReader(LIMIT, deflate=True)
    sent = [Message(letter * size, is_text=True) for letter in (b"a", b"b", b"c")]
    wire = b"".join(client_frame(TEXT, compressed(one.data), rsv1=True) for one in sent) + client_frame(PING, b"")
    received = [reader.feed(wire[:cut]) + reader.feed(wire[cut:])]
    while reader.is_behind:
        received.append(reader.feed(b""))
    assert received == [*([one] for one in sent), [Ping(b"")]]
    assert reader.held_bytes == 0


def compressed(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def fragments(data: st.DataObject, message: Message) -> list[tuple[int, bytes]]:
    cut = data.draw(st.integers(0, len(message.data)))
    opcode = TEXT if message.is_text else 2
    if data.draw(st.booleans()):
        return [(opcode, message.data)]
    return [(opcode, message.data[:cut]), (0, b""), (0, message.data[cut:])]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_a_text_frame_is_read_as_sent_by_another_implementation(size: int) -> None:
    event = b"x" * size
    frame = parsed_by_websockets(text_frames([event]))
    assert (frame.opcode, frame.data, frame.fin) == (Opcode.TEXT, event, True)


@given(st.lists(st.sampled_from([0, 1, 125, 126, 200, 1023, 1024, 65535, 65536]), max_size=4))
def test_events_together_are_the_frames_of_each(sizes: list[int]) -> None:
    events = [b"x" * size for size in sizes]
    assert text_frames(events) == b"".join(text_frames([event]) for event in events)
    assert text_frames(iter(events)) == text_frames(events)


@given(st.binary(max_size=5000), st.integers(9, 15))
@example(Random(0).randbytes(5000), 9)  # repeated further back than that window reaches
@example(Random(0).randbytes(5000), 12)
def test_a_deflated_frame_is_inflated_by_another_implementation(event: bytes, bits: int) -> None:
    extension = PerMessageDeflate(
        remote_no_context_takeover=True,
        local_no_context_takeover=True,
        remote_max_window_bits=bits,
        local_max_window_bits=15,
    )
    # More than any of these windows holds: a match from further back could not be inflated.
    assert parsed_by_websockets(deflated_frame(event * 8, bits), [extension]).data == event * 8


@given(st.text(max_size=500), st.lists(st.integers(0, 500), max_size=3))
def test_a_compressed_message_is_inflated(text: str, cuts: list[int]) -> None:
    deflater = zlib.compressobj(wbits=-15)
    payload = deflater.compress(text.encode()) + deflater.flush(zlib.Z_SYNC_FLUSH)
    wire = client_frame(TEXT, payload.removesuffix(b"\x00\x00\xff\xff"), rsv1=True)
    assert read(wire, cuts, deflate=True) == [Message(text.encode(), is_text=True)]


def test_a_bomb_is_refused_at_the_limit() -> None:
    deflater = zlib.compressobj(wbits=-15)
    payload = deflater.compress(b"\0" * (50 * LIMIT)) + deflater.flush(zlib.Z_SYNC_FLUSH)
    assert len(payload) < LIMIT
    assert breach(read(client_frame(2, payload, rsv1=True), deflate=True)) == TOO_BIG


def test_a_size_over_the_limit_is_refused_by_its_header_alone() -> None:
    reader = FrameReader(1000)
    assert breach(reader.feed(bytes((0x81, 0xFE)) + (1001).to_bytes(2, "big") + b"mask")) == TOO_BIG
    assert reader.held_bytes == 0


@pytest.mark.parametrize("size", [101, 1000, 5000])
def test_a_whole_frame_over_the_limit_is_refused_too(size: int) -> None:
    assert breach(read(client_frame(TEXT, b"x" * size), limit=100)) == TOO_BIG
    assert read(client_frame(TEXT, b"x" * 100), limit=100) == [Message(b"x" * 100, is_text=True)]


def test_a_bomb_in_fragments_is_refused_where_together_they_are_over_the_limit() -> None:
    payload = compressed(b"\0" * 3 * LIMIT)
    fragments_ = [payload[at : at + 200] for at in range(0, len(payload), 200)]
    reader = FrameReader(LIMIT, deflate=True)
    received: list[Received] = []
    for number, piece in enumerate(fragments_):
        is_first, is_last = number == 0, number == len(fragments_) - 1
        received += reader.feed(client_frame(2 if is_first else 0, piece, fin=is_last, rsv1=is_first))
        assert reader.held_bytes <= LIMIT
        if received:
            break
    assert breach(received) == TOO_BIG


def test_many_small_fragments_cost_no_more_than_what_they_hold() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(client_frame(TEXT, b"", fin=False))
    small = client_frame(0, b"xyz", fin=False) + client_frame(0, b"", fin=False)
    tracemalloc.start()
    for _ in range(1000):
        reader.feed(small * 10)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reader.held_bytes == 30_000
    assert kept < 2 * reader.held_bytes
    assert reader.feed(client_frame(0, b"!")) == [Message(b"xyz" * 10_000 + b"!", True)]


def test_fragments_together_are_held_to_the_limit() -> None:
    wire = client_frame(TEXT, b"x" * 600, fin=False) + client_frame(0, b"x" * 600)
    assert breach(read(wire, limit=1000)) == TOO_BIG


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x81\x02hi", PROTOCOL_ERROR),  # not masked
        (client_frame(0, b"x"), PROTOCOL_ERROR),  # a continuation of nothing
        (client_frame(TEXT, b"x", fin=False) + client_frame(TEXT, b"y"), PROTOCOL_ERROR),
        (client_frame(TEXT, b"x", rsv1=True), PROTOCOL_ERROR),  # deflate was not agreed on
        (bytes((0xA1, 0x80)) + b"mask", PROTOCOL_ERROR),  # RSV2
        (bytes((0x83, 0x80)) + b"mask", PROTOCOL_ERROR),  # unknown opcode
        (bytes((0x09, 0x80)) + b"mask", PROTOCOL_ERROR),  # a fragmented ping
        (bytes((0x89, 0xFE, 0, 126)) + b"mask", PROTOCOL_ERROR),  # a long ping
        (client_frame(CLOSE, b"\x03"), PROTOCOL_ERROR),
        (client_frame(CLOSE, b"\x03\xed"), PROTOCOL_ERROR),  # 1005 is never sent
        (client_frame(CLOSE, b"\x03\xe8\xff"), INVALID_DATA),
        (client_frame(TEXT, b"\xff"), INVALID_DATA),
        (client_frame(TEXT, b"\xc3", fin=False) + client_frame(0, b"("), INVALID_DATA),
        (client_frame(TEXT, b"\xed\xa0\x80"), INVALID_DATA),  # a surrogate
    ],
)
def test_a_breach_names_its_close_code(wire: bytes, code: int) -> None:
    assert breach(read(wire)) == code


def test_only_the_first_frame_of_a_message_says_that_it_is_compressed() -> None:
    begun = client_frame(TEXT, compressed(b"x" * 50)[:5], fin=False, rsv1=True)
    assert breach(read(begun + client_frame(0, b"y", rsv1=True), deflate=True)) == PROTOCOL_ERROR
    assert breach(read(client_frame(PING, b"", rsv1=True), deflate=True)) == PROTOCOL_ERROR


def test_garbage_that_says_it_is_compressed_is_refused() -> None:
    assert breach(read(client_frame(TEXT, b"\xff\xff\xff", rsv1=True), deflate=True)) == INVALID_DATA


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xe8bye", 1000), (b"\x0f\xa0", 4000)])
def test_a_close_is_read(payload: bytes, code: int) -> None:
    assert read(client_frame(CLOSE, payload)) == [Close(code)]


@given(st.integers(0, 5000), st.text(max_size=200))
def test_a_close_is_short_enough_and_whole_characters(code: int, reason: str) -> None:
    if not is_sendable(code):
        return
    frame = parsed_by_websockets(close_frame(code, reason))
    assert int.from_bytes(bytes(frame.data)[:2], "big") == code
    assert reason.startswith(bytes(frame.data)[2:].decode())


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    reader = FrameReader(LIMIT, deflate=True)
    received: list[Received] = []
    for byte in data:
        received += reader.feed(bytes((byte,)))
        if received and isinstance(received[-1], Breach):
            assert is_sendable(received[-1].code)
            break
    assert reader.held_bytes <= len(data)


@given(st.binary(max_size=100), st.binary(min_size=4, max_size=4))
def test_both_ways_of_unmasking_agree(data: bytes, mask: bytes) -> None:
    assert unmask(data, mask) == unmask_numpy(data, mask)
    assert unmask_numpy(unmask_numpy(data, mask), mask) == data


def test_without_the_extension_of_websockets_numpy_unmasks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unmask is not unmask_numpy
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    assert _fastest() is unmask_numpy


def test_a_ping_frame_is_well_formed() -> None:
    payload = os.urandom(4)
    frame = parsed_by_websockets(control_frame(PING, payload))
    assert (frame.opcode, frame.data) == (Opcode.PING, payload)
    frame.check()


def test_the_head_of_a_huge_frame_has_eight_bytes_of_length() -> None:
    assert frame_head(0x81, 1 << 40) == b"\x81\x7f" + (1 << 40).to_bytes(8, "big")
    with pytest.raises(ProtocolError):
        Frame(Opcode.PING, b"x" * 126).check()  # the oracle knows the bound that `control_frame` asserts
