"""WebSocket frames for the measuring side (RFC 6455 §5): masked ones out, whole ones in, no library in between."""

TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
_FIN = 0x80
_MASKED = 0x80
_KEY = bytes((0x1F, 0x2E, 0x3D, 0x4C))  # the key is the client's choice; one for all, so that runs are alike


def masked_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One complete client frame."""
    size = len(payload)
    if size < 126:
        head = bytes((_FIN | opcode, _MASKED | size))
    elif size < 2**16:
        head = bytes((_FIN | opcode, _MASKED | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((_FIN | opcode, _MASKED | 127)) + size.to_bytes(8, "big")
    return head + _KEY + _mask(payload)


def _mask(payload: bytes) -> bytes:
    size = len(payload)
    pad = (_KEY * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


class FrameReader:
    """Cuts what a server sends into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames completed by `data`, as opcode and payload. Servers do not mask, and ours does not fragment."""
        self._buffer += data
        frames: list[tuple[int, bytes]] = []
        at = 0
        while (bounds := _payload_bounds(self._buffer, at)) is not None:
            start, end = bounds
            frames.append((self._buffer[at] & 0x0F, bytes(self._buffer[start:end])))
            at = end
        del self._buffer[:at]
        return frames


def _payload_bounds(buffer: bytearray, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at `at` lies, if the frame is complete."""
    if len(buffer) < at + 2:
        return None
    size = buffer[at + 1]
    start = at + 2
    if size >= 126:
        width = 2 if size == 126 else 8
        if len(buffer) < start + width:
            return None
        size = int.from_bytes(buffer[start : start + width], "big")
        start += width
    return (start, start + size) if len(buffer) >= start + size else None


def handshake(host: str, port: int, path: str, api_key: str = "", more: str = "") -> bytes:
    """An upgrade request, with `more` header lines.

    The sample key of RFC 6455 §1.3 will do: nothing here depends on its secrecy.
    """
    authorization = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{authorization}{more}\r\n"
    ).encode()
