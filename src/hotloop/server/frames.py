"""WebSocket frames as bytes (RFC 6455 §5, RFC 7692), without a socket.

    bytes in ──▶ FrameReader ──▶ Message, Ping, Pong, Close        text_frame, control_frame, close_frame ──▶ bytes out

The reader takes what the socket gives, in any split. The common case, one whole unfragmented message in one piece, is one
slice and one unmasking in C. A message that comes in pieces, by fragments or because it is long, is unmasked, inflated and
checked piece by piece, so that its end costs no more than any other piece. A size over the limit is refused when the header
announces it, before anything is kept. Behind a long message the reader stops: what a few bytes inflate to is not made before
somebody has room for it.
"""

import codecs
import io
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from hotloop.server.unmask import unmask

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FIN, _RSV1, _RSV23, _OPCODE, _MASKED, _LENGTH = 0x80, 0x40, 0x30, 0x0F, 0x80, 0x7F
_CONTROL_BIT = 0x08
_DATA_OPCODES = frozenset((CONTINUATION, TEXT, BINARY))
_CONTROL_OPCODES = frozenset((CLOSE, PING, PONG))
MAX_CONTROL_BYTES: Final = 125  # RFC 6455 §5.5
LONG_FRAME_BYTES: Final = 64 * 1024  # a payload from here on is taken as it comes
_FLUSH_TAIL: Final = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: cut off by the sender, put back by the reader

NORMAL, GOING_AWAY, PROTOCOL_ERROR, NO_STATUS, INVALID_DATA, TOO_BIG = 1000, 1001, 1002, 1005, 1007, 1009


class FrameError(Exception):
    """What was received breaks the protocol. The message never holds what it was."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Message(msgspec.Struct, frozen=True):
    """A whole message. Text is valid UTF-8."""

    data: bytes
    is_text: bool


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with a pong of the same payload."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to a ping, or unasked for."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """The peer closes. `code` 1005: it gave none."""

    code: int


@dataclass(frozen=True, slots=True)
class Breach:
    """The peer broke the protocol: close with `code`. Nothing can be read after it."""

    code: int
    reason: str


Received = Message | Ping | Pong | Close | Breach


class FrameReader:
    """What a client sends, cut into messages.

    Args:
        max_message_bytes: of one message, after inflation.
        deflate: permessage-deflate was agreed on, without context takeover.
    """

    __slots__ = ("_chunks", "_deflate", "_held", "_limit", "_long", "_needed", "_open", "is_behind")

    def __init__(self, max_message_bytes: int, *, deflate: bool = False) -> None:
        self._limit = max_message_bytes
        self._deflate = deflate
        self._chunks: list[bytes] = []  # bytes of a frame that is not complete
        self._held = 0
        self._needed = 2  # bytes from which on the next frame can be read further
        self._open: _Assembly | None = None  # a message of which more is to come
        self._long: _LongFrame | None = None  # a frame of its that has begun
        self.is_behind = False  # it stopped behind a long message: feed nothing, to go on

    @property
    def held_bytes(self) -> int:
        """Bytes kept of what is not complete."""
        return self._held + (self._open.size if self._open is not None else 0)

    def feed(self, data: bytes) -> list[Received]:
        """The messages and control frames that `data` completes, up to a long message (`is_behind`); a breach comes last."""
        self.is_behind = False
        if self._chunks:
            self._chunks.append(data)
            self._held += len(data)
            if self._held < self._needed:
                return []
            data = b"".join(self._chunks)
            self._chunks.clear()
            self._held = 0
        received: list[Received] = []
        try:
            if self._long is not None:
                data = self._go_on(self._long, data, received)
                if received and data:
                    self.is_behind, self._needed = True, 2
                    self._keep(data)
                    return received
            start = 0 if self._open is not None else _whole_text_start(data, self._limit)
            if start:
                received.append(_whole(data[0], unmask(data[start:], data[start - 4 : start]), self._limit))
                return received
            read = self._read(data, received)
        except FrameError as error:
            received.append(Breach(error.code, error.reason))
            return received
        if read < len(data):
            self._keep(data[read:] if read else data)
        return received

    def _keep(self, rest: bytes) -> None:
        self._chunks.append(rest)
        self._held = len(rest)

    def _read(self, data: bytes, received: list[Received]) -> int:
        """Add what is complete to `received`; returns where the rest begins. Raises FrameError."""
        at, size = 0, len(data)
        self._needed = 2
        while size - at >= 2:
            start, end = self._bounds(data, at, size)
            if end > size or not start:
                if 0 < start <= size and end - start >= LONG_FRAME_BYTES:
                    self._begin(data[at], data[start - 4 : start], end - start, data[start:])
                    return size
                self._needed = end - at
                break
            frame = self._frame(data[at], unmask(data[start:end], data[start - 4 : start]))
            at = end
            if frame is not None:
                received.append(frame)
                if type(frame) is Message and len(frame.data) >= LONG_FRAME_BYTES:
                    self.is_behind = at < size
                    break
        return at

    def _bounds(self, data: bytes, at: int, size: int) -> tuple[int, int]:
        """Payload bounds of the frame at `at`; start 0 while the header is incomplete (end is then what it needs)."""
        first, second = data[at], data[at + 1]
        length = second & _LENGTH
        start = at + 6  # two bytes of header, four of mask
        if not second & _MASKED:
            raise FrameError(PROTOCOL_ERROR, "client frames must be masked")
        self._check_first(first, length)
        if length == 126:
            start = at + 8
            if size < start:
                return 0, start
            length = int.from_bytes(data[at + 2 : at + 4], "big")
        elif length == 127:
            start = at + 14
            if size < start:
                return 0, start
            length = int.from_bytes(data[at + 2 : at + 10], "big")
        if (self._open.wire_bytes if self._open is not None else 0) + length > self._limit:
            raise FrameError(TOO_BIG, f"messages may have at most {self._limit} bytes")
        return start, start + length

    def _check_first(self, first: int, length: int) -> None:
        opcode = first & _OPCODE
        if first & _RSV23 or (first & _RSV1 and not (self._deflate and opcode in (TEXT, BINARY))):
            raise FrameError(PROTOCOL_ERROR, "reserved bits are set")
        if opcode in _CONTROL_OPCODES:
            if not first & _FIN or length > MAX_CONTROL_BYTES:
                raise FrameError(PROTOCOL_ERROR, "control frames are short and never fragmented")
        elif opcode not in _DATA_OPCODES:
            raise FrameError(PROTOCOL_ERROR, "unknown opcode")
        elif (opcode == CONTINUATION) != (self._open is not None):
            raise FrameError(PROTOCOL_ERROR, "a fragment is out of place")

    def _frame(self, first: int, payload: bytes) -> Received | None:
        if first & _CONTROL_BIT:
            return _control(first & _OPCODE, payload)
        if self._open is None and first & _FIN:
            return _whole(first, payload, self._limit)
        self._assembly(first).add(payload)
        return self._ended(first)

    def _begin(self, first: int, mask: bytes, size: int, data: bytes) -> None:
        """A long frame of which this much is there."""
        self._long = _LongFrame(first, mask, size)
        self._assembly(first).add(self._long.take(data))

    def _go_on(self, frame: "_LongFrame", data: bytes, received: list[Received]) -> bytes:
        """Take what of the data is the frame's; returns the rest."""
        piece = frame.take(data)
        self._assembly(frame.first).add(piece)
        if frame.left:
            return b""
        self._long = None
        message = self._ended(frame.first)
        if message is not None:
            received.append(message)
        return data[len(piece) :]

    def _assembly(self, first: int) -> "_Assembly":
        if self._open is None:
            self._open = _Assembly(first, self._limit)
        return self._open

    def _ended(self, first: int) -> Message | None:
        """The message that the frame of this first byte completes."""
        if not first & _FIN or self._open is None:
            return None
        assembly, self._open = self._open, None
        return assembly.message()


class _LongFrame:
    """A frame whose payload comes piece by piece."""

    __slots__ = ("_mask", "first", "left")

    def __init__(self, first: int, mask: bytes, size: int) -> None:
        self.first = first
        self.left = size
        self._mask = mask  # turned to where the payload goes on

    def take(self, data: bytes) -> bytes:
        """The payload that begins the data, unmasked."""
        piece = unmask(data[: self.left], self._mask)
        turn = len(piece) % 4
        self._mask = self._mask[turn:] + self._mask[:turn]
        self.left -= len(piece)
        return piece


class _Assembly:
    """A message that comes in pieces. Its bytes are moved once: the buffer becomes the message."""

    __slots__ = ("_buffer", "_check", "_inflater", "_is_text", "_limit", "size", "wire_bytes")

    def __init__(self, first: int, limit: int) -> None:
        self._limit = limit
        self._is_text = first & _OPCODE == TEXT
        self._inflater = zlib.decompressobj(wbits=-zlib.MAX_WBITS) if first & _RSV1 else None
        self._check = codecs.getincrementaldecoder("utf-8")() if self._is_text else None
        self._buffer = io.BytesIO()
        self.size = 0
        self.wire_bytes = 0

    def add(self, piece: bytes) -> None:
        """The next piece, as it was sent. Raises FrameError."""
        self.wire_bytes += len(piece)
        if self._inflater is not None:
            piece = _inflated(self._inflater, piece, self._limit - self.size)
        self._keep(piece)

    def message(self) -> Message:
        """All of it. Raises FrameError."""
        if self._inflater is not None:
            self._keep(_inflated(self._inflater, _FLUSH_TAIL, self._limit - self.size))
        self._check_text(b"", is_last=True)
        return Message(self._buffer.getvalue(), self._is_text)

    def _keep(self, piece: bytes) -> None:
        self._check_text(piece)
        self._buffer.write(piece)
        self.size += len(piece)

    def _check_text(self, piece: bytes, *, is_last: bool = False) -> None:
        if self._check is None or (piece.isascii() and not is_last and not self._check.getstate()[0]):
            return
        try:
            self._check.decode(piece, is_last)
        except UnicodeDecodeError:
            raise FrameError(INVALID_DATA, "text must be UTF-8") from None


def _whole(first: int, payload: bytes, limit: int) -> Message:
    """A message that came at once. Raises FrameError."""
    if first & _RSV1:
        payload = inflate(payload, limit)
    is_text = first & _OPCODE == TEXT
    if is_text and not payload.isascii():
        try:
            payload.decode()
        except UnicodeDecodeError:
            raise FrameError(INVALID_DATA, "text must be UTF-8") from None
    return Message(payload, is_text)


def _whole_text_start(data: bytes, limit: int) -> int:
    """Where the payload begins if `data` is one whole text frame below 64 KB, as nearly every create is; else 0."""
    size = len(data)
    if size < 6 or data[0] != _FIN | TEXT:
        return 0
    second = data[1]
    if second == _MASKED | 126 and size >= 8:
        start, length = 8, data[2] << 8 | data[3]
    elif _MASKED <= second < _MASKED | 126:
        start, length = 6, second & _LENGTH
    else:
        return 0
    return start if size == start + length and length <= limit else 0


def _control(opcode: int, payload: bytes) -> Received:
    if opcode == PING:
        return Ping(payload)
    if opcode == PONG:
        return Pong(payload)
    if not payload:
        return Close(NO_STATUS)
    if len(payload) == 1:
        raise FrameError(PROTOCOL_ERROR, "half a close code")
    code = int.from_bytes(payload[:2], "big")
    if not is_sendable(code):
        raise FrameError(PROTOCOL_ERROR, "an invalid close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise FrameError(INVALID_DATA, "the reason of a close must be UTF-8") from None
    return Close(code)


def is_sendable(code: int) -> bool:
    """The close code may stand in a frame (RFC 6455 §7.4, IANA's registry)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def frame_head(first: int, size: int) -> bytes:
    """Header of an unmasked frame."""
    if size < 126:
        return bytes((first, size))
    if size < 65536:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


# Nearly every event is as short as these, one with a response object too; a table costs a third of making the header.
_HEADS: Final = tuple(frame_head(_FIN | TEXT, size) for size in range(4096))


def text_frames(events: Iterable[bytes]) -> bytes:
    """One text frame per event, in order."""
    if isinstance(events, list) and len(events) == 1:  # a delta, alone in its tick
        event: bytes = events[0]
        size = len(event)
        return (_HEADS[size] if size < len(_HEADS) else frame_head(_FIN | TEXT, size)) + event
    parts: list[bytes] = []
    for event in events:
        size = len(event)
        parts += (_HEADS[size] if size < len(_HEADS) else frame_head(_FIN | TEXT, size), event)
    return b"".join(parts)


def control_frame(opcode: int, payload: bytes) -> bytes:
    """A ping, pong or close."""
    assert len(payload) <= MAX_CONTROL_BYTES
    return bytes((_FIN | opcode, len(payload))) + payload


def close_frame(code: int, reason: str = "") -> bytes:
    """A close; 1005 sends none of its own."""
    if code == NO_STATUS:
        return control_frame(CLOSE, b"")
    text = reason.encode()[: MAX_CONTROL_BYTES - 2].decode("utf-8", "ignore").encode()
    return control_frame(CLOSE, code.to_bytes(2, "big") + text)


def inflate(payload: bytes, limit: int) -> bytes:
    """A message compressed without context takeover (RFC 7692 §7.2.2). Raises FrameError over `limit` bytes."""
    return _inflated(zlib.decompressobj(wbits=-zlib.MAX_WBITS), payload + _FLUSH_TAIL, limit)


# The class of `decompressobj` has no public name.
def _inflated(inflater: "zlib._Decompress", piece: bytes, limit: int) -> bytes:
    """What the next piece of a message inflates to. Raises FrameError over `limit` bytes."""
    try:
        data = inflater.decompress(piece, limit + 1)
    except zlib.error:
        raise FrameError(INVALID_DATA, "the message cannot be inflated") from None
    if len(data) > limit:
        raise FrameError(TOO_BIG, f"messages may have at most {limit} bytes")
    return data


def deflated_frame(event: bytes, window_bits: int = zlib.MAX_WBITS) -> bytes:
    """A text frame with the event compressed, without context takeover."""
    deflater = zlib.compressobj(1, wbits=-window_bits)
    payload = deflater.compress(event) + deflater.flush(zlib.Z_SYNC_FLUSH)
    payload = payload[: -len(_FLUSH_TAIL)]
    return frame_head(_FIN | _RSV1 | TEXT, len(payload)) + payload
