"""The raw WebSocket path: a protocol class for uvicorn's `ws=` option that puts events on the wire itself.

uvicorn hands over the socket after it has read the upgrade request. From there on a message goes from the socket to its
listener by one plain call, and everything pushed in one loop tick leaves in one write. ASGI and its middleware are not
involved: who may enter is decided by the door (`server/auth.py` through `RawDoor`).

    HANDSHAKE ──101──▶ OPEN ──close sent or received──▶ CLOSING ──▶ LOST
        └── refused: plain HTTP answer ──────────────────────────────┘
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from enum import Enum, auto
from inspect import signature
from typing import Any, Final, Protocol, cast

from uvicorn.config import Config
from uvicorn.server import ServerState

from hotloop.errors import ApiError, InvalidRequest, ServerFault
from hotloop.protocol.wire import error_body
from hotloop.server.frames import (
    CLOSE,
    GOING_AWAY,
    NO_STATUS,
    NORMAL,
    PING,
    PONG,
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
    text_frames,
)
from hotloop.server.handshake import (
    HandshakeError,
    Header,
    UpgradeRequest,
    accept_response,
    error_response,
    parse_upgrade,
    refusal_response,
)
from hotloop.server.slow_reader import SlowReader, limit_unsent

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S: Final = 5.0  # for the peer's half of the closing handshake, and to take what is left
HIGH_WATER_BYTES: Final = 256 * 1024  # of unsent output, at which the listener is told to pause
DEFLATE_FROM_BYTES: Final = 32 * 1024  # smaller events: deflate costs more time than it saves


class Listener(Protocol):
    """Who gets a connection's messages. All calls come on the loop's thread; none may block."""

    async def serve(self) -> None:
        """Runs in a task of its own beside the connection, until `on_lost`."""
        ...

    def on_message(self, data: bytes, *, is_text: bool) -> None:
        """A whole message; text is valid UTF-8."""
        ...

    def on_writable(self) -> None:
        """The peer reads again after `RawWebSocket.is_paused`."""
        ...

    def on_lost(self) -> None:
        """The connection is over, however it ended. Comes exactly once, last."""
        ...


class Door(Protocol):
    """Who may open a connection, and what listens to it."""

    def open(self, request: UpgradeRequest, wire: "RawWebSocket") -> Listener:
        """The listener of a new connection. Raises the ApiError that refuses it."""
        ...


class _State(Enum):
    HANDSHAKE = auto()
    OPEN = auto()
    CLOSING = auto()  # a close frame was sent, or the answer to a refused upgrade
    LOST = auto()


class RawWebSocket(asyncio.Protocol):
    """One connection, on uvicorn's contract for WebSocket protocols.

    Args:
        config: uvicorn's; the limits of messages and the ping times are read from it.
        server_state: uvicorn's; connections are registered there so that a shutdown finds them.
        app_state: ASGI's lifespan state, not used.
        _loop: the running loop where None.
    """

    door: Door  # set by `raw_protocol`
    max_pending_bytes: int
    slow_reader_s: float
    max_delay_s: float

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._config = config
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._state = _State.HANDSHAKE
        self._head = b""
        self._parts: list[bytes] = []  # frames of this loop tick, or of the time the peer does not read
        self._parts_bytes = 0
        self._is_flushing = False
        self._deflate_bits = 0  # window of the compressor; 0: permessage-deflate was not agreed on
        self._ping = b""  # payload of the ping under way
        self._timer: asyncio.TimerHandle | None = None  # next ping, pong deadline or end of the closing handshake
        self._listener: Listener | None = None
        self._is_held = False  # nothing is read of the peer at present
        self.is_closed = True  # what is pushed goes nowhere: before the handshake, and from the closing one on
        self.is_paused = False
        self.close_code = NORMAL  # that was sent, or received where the peer closed first

    # --- for the listener: a ConnectionSink ---

    def push(self, events: Iterable[bytes]) -> None:
        """Each event as one text message, in this order; all of one loop tick in one write. Dropped once closing."""
        if self._state is not _State.OPEN:
            return
        frames = self._deflated(events) if self._deflate_bits else text_frames(events)
        self._parts.append(frames)
        if self.is_paused:
            self._hold(len(frames))
        elif not self._is_flushing:
            self._flush_soon()

    def _flush_soon(self) -> None:
        """Not at once: uvloop makes a system call of every write, and more may come in this tick, of other lanes too."""
        self._is_flushing = True
        if self.max_delay_s:
            self._loop.call_later(self.max_delay_s, self._flush)
        else:
            self._loop.call_soon(self._flush)

    def send_frame(self, frame: bytes) -> None:
        """One finished frame, behind what is pending."""
        if self._state is _State.OPEN:
            self._parts.append(frame)
            if self.is_paused:
                self._hold(len(frame))
            else:
                self._write()

    def close(self, code: int) -> None:
        """Drop what is pending and send the close frame; the peer has a few seconds to answer. Idempotent."""
        if self._state is _State.OPEN:
            self._parts.clear()
            self.finish(code)

    def finish(self, code: int) -> None:
        """Send what is pending, then the close frame; the peer has a few seconds to answer. Idempotent."""
        if self._state is not _State.OPEN:
            return
        self._parts.append(close_frame(code))
        self._state, self.is_closed = _State.CLOSING, True
        self.close_code = code
        self._write()
        self._set_timer(CLOSE_TIMEOUT_S, self._transport.abort)

    def hold_reading(self, until: "asyncio.Future[None]") -> None:
        """Take nothing more from the peer before `until` is done."""
        if not self._is_held and self._state is _State.OPEN:
            self._is_held = True
            self._transport.pause_reading()
            until.add_done_callback(self._read_on)

    def _read_on(self, _: "asyncio.Future[None]") -> None:
        self._is_held = False
        if self._transport.is_closing():
            return
        if self._reader.is_behind:
            self.data_received(b"")
        if not self._is_held:
            self._transport.resume_reading()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket over from uvicorn's HTTP protocol."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        limit_unsent(self._transport)
        self._slow = SlowReader(self._transport, self.slow_reader_s, self._give_up)
        # uvicorn's set names its own classes; what it asks of them is `shutdown`.
        self._server.connections.add(cast(Any, self))

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer: first the request that uvicorn read, then frames."""
        if self._state is _State.HANDSHAKE:
            self._handshake(data)
            return
        if self._state is _State.LOST:
            return
        if self._is_flushing:
            self._read(data)
            return
        self._is_flushing = True  # not yet: what a message puts into the loop comes before the flush
        try:
            self._read(data)
        finally:
            if self._parts:
                self._flush_soon()
            else:
                self._is_flushing = False

    def _read(self, data: bytes) -> None:
        reader = self._reader
        found = reader.feed(data)
        while found:
            for received in found:
                if type(received) is Message and self._state is _State.OPEN:
                    assert self._listener is not None
                    self._listener.on_message(received.data, is_text=received.is_text)
                else:
                    self._receive(received)
            if not reader.is_behind or self._is_held:
                return
            found = reader.feed(b"")

    def eof_received(self) -> None:
        """The peer sends no more: the transport closes itself."""

    def pause_writing(self) -> None:
        """The peer does not read: keep what follows, for a while."""
        self.is_paused = True
        self._slow.paused()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self.is_paused = False
        self._slow.resumed()
        self._parts_bytes = 0
        if self._parts:
            self._write()
        if self._listener is not None and self._state is _State.OPEN and not self.is_paused:
            self._listener.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._state, self.is_closed = _State.LOST, True
        self._server.connections.discard(cast(Any, self))
        self._parts.clear()
        self._cancel_timer()
        self._slow.resumed()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_lost()

    def shutdown(self) -> None:
        """uvicorn stops. Connections were drained before; what is left ends here."""
        self.finish(GOING_AWAY)
        self._leave()

    # --- handshake ---

    def _handshake(self, data: bytes) -> None:
        try:
            request = parse_upgrade(data)
            self._deflate_bits = request.deflate_bits if self._config.ws_per_message_deflate else 0
            self._reader = FrameReader(self._config.ws_max_size, deflate=bool(self._deflate_bits))
            self._listener = self.door.open(request, self)
        except HandshakeError as error:
            self._refuse(refusal_response(error.status, error_body(InvalidRequest(str(error)))))
        except ApiError as error:
            self._refuse(error_response(error))
        except Exception:
            logger.exception("a WebSocket could not be opened")
            self._refuse(error_response(ServerFault("Something went wrong on the server's side.")))
        else:
            self._transport.write(accept_response(request, self._default_headers(), deflate=bool(self._deflate_bits)))
            self._state, self.is_closed = _State.OPEN, False
            task = self._loop.create_task(self._listener.serve())
            self._server.tasks.add(task)  # uvicorn waits for these when it stops
            task.add_done_callback(self._server.tasks.discard)
            self._schedule_ping()

    def _default_headers(self) -> Sequence[Header]:
        return self._server.default_headers

    def _refuse(self, response: bytes) -> None:
        self._state, self.is_closed = _State.CLOSING, True
        self._transport.write(response)
        self._leave()

    # --- frames in ---

    def _receive(self, received: Received) -> None:
        if self._state is not _State.OPEN:
            if isinstance(received, Close | Breach):
                self._leave()
            return  # RFC 6455 §5.5.1: nothing else counts behind a close
        match received:
            case Ping():
                self.send_frame(control_frame(PONG, received.payload))
            case Close():
                self._answer_close(received.code)
            case Breach():
                self._fail(received)
            case Pong():
                if received.payload == self._ping:
                    self._schedule_ping()
            case Message():
                raise AssertionError("messages of an open connection go to its listener")

    def _answer_close(self, code: int) -> None:
        self.close_code = code
        self._parts.append(close_frame(code) if code != NO_STATUS else control_frame(CLOSE, b""))
        self._state, self.is_closed = _State.CLOSING, True
        self._write()
        self._leave()

    def _fail(self, breach: Breach) -> None:
        self._parts.append(close_frame(breach.code, breach.reason))
        self._state, self.is_closed = _State.CLOSING, True
        self.close_code = breach.code
        self._write()
        self._leave()

    def _leave(self) -> None:
        """Close the socket: what is left is sent first, if the peer takes it."""
        self._transport.close()
        self._set_timer(CLOSE_TIMEOUT_S, self._transport.abort)

    # --- frames out ---

    def _deflated(self, events: Iterable[bytes]) -> bytes:
        return b"".join(
            deflated_frame(event, self._deflate_bits) if len(event) >= DEFLATE_FROM_BYTES else text_frames([event])
            for event in events
        )

    def _hold(self, size: int) -> None:
        self._parts_bytes += size
        if self._parts_bytes > self.max_pending_bytes:
            self._give_up()

    def _flush(self) -> None:
        self._is_flushing = False
        if self._parts and not self.is_paused:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            self._transport.write(data)

    def _write(self) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        self._transport.write(data)

    def _give_up(self) -> None:
        """The peer reads too slowly: over the byte cap, or nothing at all for too long."""
        logger.info("a WebSocket was closed: its client does not read")
        self._state, self.is_closed = _State.CLOSING, True
        self._transport.abort()

    # --- timers ---

    def _schedule_ping(self) -> None:
        interval = self._config.ws_ping_interval
        self._ping = b""
        if interval:
            self._set_timer(interval, self._send_ping)

    def _send_ping(self) -> None:
        self._ping = secrets.token_bytes(4)
        self.send_frame(control_frame(PING, self._ping))
        if self._config.ws_ping_timeout:
            self._set_timer(self._config.ws_ping_timeout, self._transport.abort)

    def _set_timer(self, delay_s: float, callback: Callable[[], object]) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(delay_s, callback)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def raw_protocol(
    door: Door, *, max_pending_bytes: int, slow_reader_s: float, max_delay_s: float = 0.0
) -> type[RawWebSocket]:
    """The class to give to uvicorn, for one door. Events wait up to `max_delay_s` for others to leave with."""

    class BoundWebSocket(RawWebSocket):
        pass

    BoundWebSocket.door = door
    BoundWebSocket.max_pending_bytes = max_pending_bytes
    BoundWebSocket.slow_reader_s = slow_reader_s
    BoundWebSocket.max_delay_s = max_delay_s
    return BoundWebSocket


def raw_path_fits() -> bool:
    """uvicorn still hands connections over the way this class expects; else the ASGI door serves, more slowly."""
    try:
        from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol as Theirs
    except ImportError:
        expected = False
    else:
        ours, theirs = (signature(one.__init__).parameters for one in (RawWebSocket, Theirs))
        state = ServerState()
        has_all = all(hasattr(state, name) for name in ("connections", "tasks", "default_headers"))
        expected = list(ours) == list(theirs) and has_all
    if not expected:
        logger.warning("this uvicorn has another WebSocket contract: events go through ASGI, which costs more")
    return expected
