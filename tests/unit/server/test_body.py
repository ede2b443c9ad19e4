import gzip
import zlib
from collections.abc import MutableMapping
from typing import Any

import pytest
import zstandard

from hotloop.errors import ApiError, InvalidRequest, PayloadTooLarge, UnsupportedEncoding
from hotloop.server.body import OFF_LOOP_BYTES, ClientGone, read_body

LIMIT = 200_000
TEXT = bytes(range(256)) * 40


async def read(body: bytes, encoding: str | None = None, *, limit: int = LIMIT, pieces: int = 1) -> bytes:
    size = -(-len(body) // pieces) or 1
    chunks = [body[start : start + size] for start in range(0, len(body), size)] or [b""]

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    headers = [] if encoding is None else [(b"content-encoding", encoding.encode())]
    return await read_body({"headers": headers}, receive, limit)


def zstd(data: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)


@pytest.mark.parametrize("encoding", [None, "identity", ""])
async def test_a_plain_body_arrives_whole_in_any_pieces(encoding: str | None) -> None:
    assert await read(TEXT, encoding, pieces=7) == TEXT


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzip.compress(TEXT)),
        ("GZip", gzip.compress(TEXT)),
        ("gzip", gzip.compress(TEXT[:100]) + gzip.compress(TEXT[100:])),
        ("zstd", zstd(TEXT)),
        ("zstd", zstd(TEXT[:100]) + zstd(TEXT[100:])),
    ],
    ids=["gzip", "name in capitals", "two gzip members", "zstd", "two zstd frames"],
)
async def test_a_compressed_body_is_read(encoding: str, body: bytes) -> None:
    assert await read(body, encoding, pieces=3) == TEXT


async def test_a_large_compressed_body_is_read_in_a_thread_and_is_the_same() -> None:
    noise = b"".join(zlib.crc32(b"%d" % number).to_bytes(4, "big") for number in range(30_000))
    body = zstd(noise)
    assert len(body) > OFF_LOOP_BYTES
    assert await read(body, "zstd") == noise


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
async def test_the_limit_counts_what_comes_out_and_a_bomb_costs_no_more(encoding: str) -> None:
    bomb = b"\0" * 50_000_000
    body = gzip.compress(bomb) if encoding == "gzip" else zstd(bomb)
    assert len(body) < LIMIT
    with pytest.raises(PayloadTooLarge):
        await read(body, encoding)
    exact = b"\0" * LIMIT
    assert await read(gzip.compress(exact) if encoding == "gzip" else zstd(exact), encoding) == exact


async def test_many_members_count_together() -> None:
    with pytest.raises(PayloadTooLarge):
        await read(gzip.compress(b"\0" * 60_000) * 4, "gzip")


async def test_a_compressed_body_over_the_limit_is_not_even_opened() -> None:
    with pytest.raises(PayloadTooLarge):
        await read(b"x" * 101, "gzip", limit=100)


@pytest.mark.parametrize(
    ("encoding", "body", "kind"),
    [
        ("gzip", b"plain", InvalidRequest),
        ("gzip", gzip.compress(TEXT)[:-20], InvalidRequest),
        ("zstd", b"plain", InvalidRequest),
        ("br", b"x", UnsupportedEncoding),
        ("gzip, zstd", b"x", UnsupportedEncoding),
    ],
)
async def test_what_cannot_be_read_is_refused(encoding: str, body: bytes, kind: type[ApiError]) -> None:
    with pytest.raises(kind) as caught:
        await read(body, encoding)
    assert caught.value.status in (400, 415)


async def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj()
    body = stream.compress(TEXT) + stream.flush()
    with pytest.raises(InvalidRequest, match="window"):
        await read(body, "zstd")


async def test_a_client_that_leaves_is_told_apart() -> None:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ClientGone):
        await read_body({"headers": []}, receive, LIMIT)
