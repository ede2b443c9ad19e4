"""The measuring side: plain blocking sockets, requests built before the clock starts, no client library."""

import socket
import time
from types import TracebackType
from typing import Self

from hotloop.bench.answers import Answer, AnswerReader, BenchError, one_line, status_line
from hotloop.bench.frames import CLOSE, PING, PONG, TEXT, FrameReader, handshake, masked_frame

PATH = "/v1/responses"
_TIMING = "hotloop-timing: 1\r\n"  # asks for the server's own stamps
_CHUNK = 2**18
_PATIENCE_S = 120.0  # a preload of 200k tokens on a busy machine takes seconds; longer means that something hangs


class Connection:
    """A TCP connection that is closed at the end of its `with` block."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=_PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Idempotent."""
        self.socket.close()

    def receive(self) -> bytes:
        """What has arrived, at least one byte."""
        try:
            data = self.socket.recv(_CHUNK)
        except TimeoutError as error:
            raise BenchError(f"the server said nothing for {_PATIENCE_S:g} s") from error
        if not data:
            raise BenchError("the server closed the connection")
        return data

    def receive_exactly(self, size: int) -> None:
        """Wait for `size` bytes and drop them."""
        while size > 0:
            size -= len(self.receive())


class WebSocketClient(Connection):
    """WebSocket mode on one connection."""

    def __init__(self, host: str, port: int, *, api_key: str = "", path: str = PATH, timing: bool = False) -> None:
        super().__init__(host, port)
        self._frames = FrameReader()
        try:
            self._upgrade(handshake(host, port, path, api_key, _TIMING if timing else ""))
        except BaseException:
            self.close()
            raise

    def _upgrade(self, request: bytes) -> None:
        self.socket.sendall(request)
        head = b""
        while b"\r\n\r\n" not in head:
            byte = self.socket.recv(1)  # nothing of the first frame may be taken with the head
            if not byte:
                raise BenchError("the server closed the connection instead of upgrading it")
            head += byte
        if not head.startswith(b"HTTP/1.1 101"):
            raise BenchError(f"the upgrade was refused: {status_line(head)}")

    def turn(self, frame: bytes) -> Answer:
        """Send a create that is framed already, read up to its terminal event."""
        reader = AnswerReader()
        self.socket.sendall(frame)
        while True:
            data = self.receive()
            arrived = time.perf_counter()
            for opcode, payload in self._frames.feed(data):
                answer = self._take(opcode, payload, reader, arrived)
                if answer is not None:
                    return answer

    def event(self, *kinds: str) -> bytes:
        """The next event whose type begins with one of these; those before it are passed over."""
        starts = tuple(b'{"type":"' + kind.encode() for kind in kinds)
        while True:
            for opcode, payload in self._frames.feed(self.receive()):
                if opcode == TEXT and payload.startswith(starts):
                    return payload
                if opcode == PING:
                    self.socket.sendall(masked_frame(payload, PONG))

    def attend(self) -> None:
        """Answer pings that came while nobody listened: a server gives up a client that does not. Call it between turns."""
        self.socket.setblocking(False)
        try:
            for opcode, payload in self._frames.feed(self.receive()):
                if opcode == PING:
                    self.socket.sendall(masked_frame(payload, PONG))
        except BlockingIOError:
            pass
        finally:
            self.socket.settimeout(_PATIENCE_S)

    def ask(self, body: bytes) -> Answer:
        """The same for a create that is not framed yet; framing it is not in the answer's times."""
        return self.turn(masked_frame(body))

    def _take(self, opcode: int, payload: bytes, reader: AnswerReader, arrived: float) -> Answer | None:
        if opcode == TEXT:
            return reader.add(payload, arrived)
        if opcode == PING:
            self.socket.sendall(masked_frame(payload, PONG))
        elif opcode == CLOSE:
            raise BenchError(f"the server closed with code {int.from_bytes(payload[:2], 'big')}")
        return None


class HttpClient(Connection):
    """Streaming creates over one keep-alive HTTP connection."""

    def __init__(self, host: str, port: int, *, api_key: str = "", path: str = PATH, timing: bool = False) -> None:
        super().__init__(host, port)
        self._start = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {api_key}\r\n{_TIMING if timing else ''}"
        )

    def is_closed(self) -> bool:
        """The server has closed the connection while it was idle."""
        self.socket.setblocking(False)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        finally:
            self.socket.settimeout(_PATIENCE_S)

    def request(self, body: bytes) -> bytes:
        """A complete POST."""
        return f"{self._start}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def ask(self, body: bytes) -> Answer:
        """A create as JSON; what is put around it is not in the answer's times."""
        return self.turn(self.request(body))

    def turn(self, request: bytes) -> Answer:
        """Send a request built with `request`, read its stream to the end."""
        reader = AnswerReader()
        stream = EventStream()
        answer: Answer | None = None
        self.socket.sendall(request)
        while not stream.is_over:
            data = self.receive()
            arrived = time.perf_counter()
            for event in stream.feed(data):
                answer = reader.add(event, arrived) or answer
        if answer is None:
            raise BenchError("the stream ended without a terminal event")
        return answer


class EventStream:
    """Server-sent events out of one chunked HTTP/1.1 answer (RFC 9112 §7.1)."""

    def __init__(self) -> None:
        self._raw = b""
        self._text = b""
        self._in_body = False
        self.is_over = False

    def feed(self, data: bytes) -> list[bytes]:
        """The `data` of the events that are complete now, `[DONE]` left out. Raises BenchError for a refusal."""
        self._raw += data
        if not self._in_body:
            self._read_head()
        while self._in_body and not self.is_over and self._read_chunk():
            pass
        *events, self._text = self._text.split(b"\n\n")
        values = [event.partition(b"data:")[2].strip() for event in events]
        return [value for value in values if value and value != b"[DONE]"]

    def _read_head(self) -> None:
        head, found, rest = self._raw.partition(b"\r\n\r\n")
        if not found:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            raise BenchError(f"the request was refused: {status_line(head)}: {one_line(rest)}")
        self._raw = rest
        self._in_body = True

    def _read_chunk(self) -> bool:
        """Take one complete chunk; False if there is none yet."""
        line, found, rest = self._raw.partition(b"\r\n")
        if not found:
            return False
        size = int(line, 16)
        if len(rest) < size + 2:
            return False
        self._text += rest[:size]
        self._raw = rest[size + 2 :]
        self.is_over = size == 0
        return True
