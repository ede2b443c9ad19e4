"""Reading a request's body: bounded before and after decompression (docs/protocol.md §11.5).

A body is read whole before it is decompressed, and decompression stops at the same limit, so that a few kilobytes which
unfold to gigabytes cost no more than the limit.
"""

import asyncio
import io
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import zstandard

from hotloop.errors import InvalidRequest, PayloadTooLarge, UnsupportedEncoding

AsgiReceive = Callable[[], Awaitable[MutableMapping[str, Any]]]
AsgiScope = MutableMapping[str, Any]

OFF_LOOP_BYTES = 64 * 1024  # larger bodies are decompressed in a thread: about 1 ms at 100 MB/s and a ratio of 2
ZSTD_WINDOW_BYTES = 8 * 2**20  # what RFC 8878 asks a decoder to support; a frame may demand more memory, and is refused


class ClientGone(Exception):
    """The client left before its request was read."""


async def read_body(scope: AsgiScope, receive: AsgiReceive, limit: int) -> bytes:
    """The whole body, decompressed. Raises PayloadTooLarge before more than `limit` bytes are kept, and ClientGone."""
    data = await receive_body(scope, receive, limit)
    encodings = [
        value.decode("latin-1").strip().lower() for name, value in scope["headers"] if name == b"content-encoding"
    ]
    encoding = ", ".join(encodings)
    if encoding in ("", "identity"):
        return data
    decompress = _DECOMPRESS.get(encoding)
    if decompress is None:
        raise UnsupportedEncoding(f"Content-Encoding '{encoding[:40]}' is not read here; use gzip, zstd or none.")
    if len(data) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(decompress, data, limit)
    return decompress(data, limit)


async def receive_body(scope: AsgiScope, receive: AsgiReceive, limit: int) -> bytes:
    """The whole body as it came. Raises PayloadTooLarge before more than `limit` bytes are kept, and ClientGone."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)
    kept = io.BytesIO()  # its buffer becomes the body: joining pieces would move megabytes at once
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False) and size == len(chunk):
            return chunk
        kept.write(chunk)
        if not message.get("more_body", False):
            return kept.getvalue()


def _gunzip(data: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while data:  # members may follow one another
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        try:
            piece = member.decompress(data, limit + 1 - size)
        except zlib.error:
            raise InvalidRequest("The body is not valid gzip.") from None
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not member.eof:
            raise InvalidRequest("The gzip body ends too early.")
        pieces.append(piece)
        data = member.unused_data
    return b"".join(pieces)


def _unzstd(data: bytes, limit: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    source = io.BytesIO(data)
    try:
        with decompressor.stream_reader(source, read_across_frames=True, closefd=False) as reader:
            found = reader.read(limit + 1)
    except zstandard.ZstdError:
        raise InvalidRequest("The body is not valid zstd, or needs a window over 8 MiB.") from None
    if len(found) > limit:
        raise _too_large(limit)
    return found


_DECOMPRESS: dict[str, Callable[[bytes, int], bytes]] = {"gzip": _gunzip, "x-gzip": _gunzip, "zstd": _unzstd}


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit} bytes.")
