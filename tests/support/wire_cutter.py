"""A proxy between a client and a server that does what networks do: refuses an upgrade, cuts a connection."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_UPGRADE_REQUIRED = b"HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CREATED = b'"type":"response.created"'


@dataclass(slots=True)
class WireCutter:
    """Forwards connections to `upstream`.

    Args:
        refuse_upgrades: answer every WebSocket handshake with 426.
        cut_at: the connection over which the so many-th response is announced, counted over all of them, is dropped
            before the client hears of it. 0: never.
    """

    upstream: tuple[str, int]
    refuse_upgrades: bool = False
    cut_at: int = 0
    refused: int = 0
    cuts: int = 0
    _created: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def serve(self, listener: socket.socket) -> None:
        """Accept until the listener is closed; a thread per connection."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        head = client.recv(65536)
        if self.refuse_upgrades and b"upgrade: websocket" in head.lower():
            with self._lock:
                self.refused += 1
            client.sendall(_UPGRADE_REQUIRED)
            client.close()
            return
        server = socket.create_connection(self.upstream)
        server.sendall(head)
        up = threading.Thread(target=_pump, args=(client, server), daemon=True)
        up.start()
        self._pump_down(server, client)
        up.join()
        server.close()
        client.close()

    def _pump_down(self, server: socket.socket, client: socket.socket) -> None:
        while data := _receive(server):
            with self._lock:
                before, self._created = self._created, self._created + data.count(_CREATED)
                cut = before < self.cut_at <= self._created
                self.cuts += cut
            if cut:
                break
            try:
                client.sendall(data)
            except OSError:
                break
        _end(server)
        _end(client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while data := _receive(source):
        try:
            sink.sendall(data)
        except OSError:
            break
    _end(sink)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _end(end: socket.socket) -> None:
    with suppress(OSError):  # the other side was faster
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def wire_cutter(url: str, *, refuse_upgrades: bool = False, cut_at: int = 0) -> Generator[tuple[WireCutter, str]]:
    """A running cutter in front of a base URL, and its own base URL."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    cutter = WireCutter((parts.hostname, parts.port), refuse_upgrades, cut_at)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=cutter.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield cutter, f"http://127.0.0.1:{listener.getsockname()[1]}{parts.path}"
    finally:
        # A close alone would leave `accept` waiting.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
