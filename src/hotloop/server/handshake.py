"""The opening handshake of a WebSocket (RFC 6455 §4.2, RFC 7692 §7.1), as bytes."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

from hotloop.errors import ApiError
from hotloop.protocol.wire import error_body

Header = tuple[bytes, bytes]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
_DEFLATE: Final = b"permessage-deflate"
# Neither side keeps its window between messages: an idle connection costs no compressor.
_DEFLATE_ANSWER: Final = b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
_TAKEOVERS: Final = (b"server_no_context_takeover", b"client_no_context_takeover")
_MAX_BITS: Final = 15
_WINDOWS: Final = {str(bits).encode(): bits for bits in range(9, _MAX_BITS + 1)}  # 8 is one that zlib cannot write


class HandshakeError(Exception):
    """The upgrade cannot be accepted: answer with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """A valid upgrade. Header names are lower case."""

    path: str
    headers: Sequence[Header]
    key: bytes
    deflate_bits: int  # the largest window of ours that an offer of permessage-deflate allows; 0: none was made
    names_bits: bool = False  # the offer asks for it, so that the answer has to say it (RFC 7692 §7.1.2.1)


def parse_upgrade(head: bytes) -> UpgradeRequest:
    """The request `head`, as uvicorn hands it over: complete, its names in lower case. Raises HandshakeError."""
    request_line, _, rest = head.partition(b"\r\n")
    method, target, _ = request_line.split(b" ", 2)
    headers = [_header(line) for line in rest.split(b"\r\n") if line]
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    if method != b"GET":
        raise HandshakeError(405, "A WebSocket is opened with GET.")
    if found.get(b"sec-websocket-version", b"").strip() != b"13":
        raise HandshakeError(426, "Only version 13 of the WebSocket protocol is spoken here.")
    key = found.get(b"sec-websocket-key", b"").strip()
    if not _is_key(key):
        raise HandshakeError(400, "Sec-WebSocket-Key is missing or wrong.")
    path = unquote(target.partition(b"?")[0].decode("latin-1"))
    return UpgradeRequest(path, headers, key, *_deflate_bits(found.get(b"sec-websocket-extensions", b"")))


def accept_response(request: UpgradeRequest, headers: Sequence[Header], *, deflate: bool) -> bytes:
    """The 101, with further `headers`."""
    digest = base64.b64encode(hashlib.sha1(request.key + _GUID, usedforsecurity=False).digest())
    lines = [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + digest,
    ]
    if deflate:
        window = b"; server_max_window_bits=%d" % request.deflate_bits if request.names_bits else b""
        lines.append(b"Sec-WebSocket-Extensions: " + _DEFLATE_ANSWER + window)
    lines += [name + b": " + value for name, value in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def refusal_response(status: int, body: bytes, retry_after_s: float | None = None) -> bytes:
    """A plain HTTP answer with a JSON body that ends the connection."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if status == HTTPStatus.UPGRADE_REQUIRED:
        lines.append("Sec-WebSocket-Version: 13")
    if retry_after_s is not None:
        lines.append(f"Retry-After: {retry_after_s:g}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def error_response(error: ApiError) -> bytes:
    """The ordinary error body with its status."""
    return refusal_response(error.status, error_body(error), error.retry_after_s)


def _header(line: bytes) -> Header:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip()


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False


def _deflate_bits(offers: bytes) -> tuple[int, bool]:
    """The window of the first offer of permessage-deflate whose parameters our answer satisfies, and whether it asks for it.

    0: there is none.
    """
    for offer in offers.split(b","):
        name, *parameters = (part.strip() for part in offer.split(b";"))
        if name == _DEFLATE and (bits := _bits_of(parameters)):
            return bits, any(parameter.startswith(b"server_max_window_bits") for parameter in parameters)
    return 0, False


def _bits_of(parameters: Sequence[bytes]) -> int:
    """0 if one of the parameters is unknown, or is there twice, or cannot be met."""
    bits = _MAX_BITS
    seen: set[bytes] = set()
    for parameter in parameters:
        key, _, value = (part.strip() for part in parameter.partition(b"="))
        if key in seen:
            return 0
        seen.add(key)
        value = value.strip(b'"')
        if key == b"server_max_window_bits" and value in _WINDOWS:
            bits = _WINDOWS[value]
        elif not (key in _TAKEOVERS and not value) and not (
            key == b"client_max_window_bits" and (value in {b"", b"8", *_WINDOWS})
        ):
            return 0
    return bits
