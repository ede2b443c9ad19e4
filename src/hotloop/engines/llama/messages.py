"""What server and engine host say to each other: 4-byte little-endian length, then one msgpack message.

Token ids travel as raw bytes of 32-bit integers. The host sends one `Step` per engine step for all runs together; every
step is a sign of life, also when it only prefilled.
"""

import struct
from array import array
from collections.abc import Sequence

import msgspec

from hotloop.seams.engine import Constraint, EndReason, Sampling, TokenLogprob, Usage

MAX_FRAME_BYTES = 64 << 20  # 16M token ids
_LENGTH = struct.Struct("<I")


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """A handle for the chain `tokens`, which may share KV within `tenant`."""

    handle: int
    tenant: str
    tokens: bytes


class Generate(msgspec.Struct, frozen=True, array_like=True, tag="generate"):
    """KvHandle.generate."""

    handle: int
    run: int
    keep: int
    new: bytes
    sampling: Sampling
    constraint: Constraint | None


class Abort(msgspec.Struct, frozen=True, array_like=True, tag="abort"):
    """Run.abort."""

    run: int


class Close(msgspec.Struct, frozen=True, array_like=True, tag="close"):
    """KvHandle.close."""

    handle: int


class Ready(msgspec.Struct, frozen=True, array_like=True, tag="ready"):
    """The model is loaded."""

    context_tokens: int
    kv_cells: int  # 0: the model's memory has none
    sequences: int
    threads: int
    can_rewind: bool


class Unusable(msgspec.Struct, frozen=True, array_like=True, tag="unusable"):
    """The host exits: the model cannot be loaded, and `path` is set if the file is at fault; or the engine failed later."""

    reason: str
    path: str | None = None


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """A run is over."""

    run: int
    reason: EndReason
    usage: Usage
    detail: str


class KvHeld(msgspec.Struct, frozen=True, array_like=True):
    """Memory that the KV of all chains takes."""

    cells: int = 0  # of the cache; what chains share counts once
    parked_bytes: int = 0
    copies: int = 0  # pieces that are parked


class Step(msgspec.Struct, frozen=True, array_like=True, tag="step"):
    """One engine step: `tokens[i]` was sampled for `runs[i]`; then the runs that are over."""

    runs: bytes = b""
    tokens: bytes = b""
    logprobs: list[TokenLogprob | None] | None = None
    ended: Sequence[Ended] = ()
    decoded: int = 0  # tokens in this step's batch, prompts included
    held: KvHeld | None = None  # after the step; None: as it was after the one before


ToHost = Open | Generate | Abort | Close
FromHost = Ready | Unusable | Step

_encoder = msgspec.msgpack.Encoder()
to_host_decoder: msgspec.msgpack.Decoder[ToHost] = msgspec.msgpack.Decoder(ToHost)
from_host_decoder: msgspec.msgpack.Decoder[FromHost] = msgspec.msgpack.Decoder(FromHost)


def frame(message: ToHost | FromHost) -> bytes:
    """The message as it goes over the link. Raises ValueError if it is over the frame limit."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"a message of {len(body)} bytes; at most {MAX_FRAME_BYTES} fit a frame")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into frame bodies."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The bodies completed by `data`. Raises ValueError on a frame over the limit."""
        self._buffer += data
        bodies: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer, start)
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {size} bytes; at most {MAX_FRAME_BYTES} are allowed")
            end = start + _LENGTH.size + size
            if len(self._buffer) < end:
                break
            bodies.append(bytes(self._buffer[start + _LENGTH.size : end]))
            start = end
        del self._buffer[:start]
        return bodies


def id_bytes(ids: "array[int]") -> bytes:
    """Ids as they travel."""
    assert ids.itemsize == 4, "array('I') is 32 bits wide on every platform we run on"
    return ids.tobytes()
