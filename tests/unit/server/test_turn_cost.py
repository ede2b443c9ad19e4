"""What a turn costs in calls of Python functions: a number that no busy machine changes, so that it cannot creep up.

The raw WebSocket path from the bytes of a create to those of its terminal event, without a socket.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any, cast

from tests.support.scripted_model import LOOK_UP, scripted_model
from uvicorn.config import Config
from uvicorn.server import ServerState

from hotloop.app import build_app
from hotloop.bench.frames import masked_frame
from hotloop.config import ServerSettings

WARM_TURNS = 80  # more than a connection keeps in its cache: from then on a turn also forgets one
TURNS = 10
MOST_CALLS = 285  # measured: 260; of functions of the package, comprehensions and generator steps among them

UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"authorization: Bearer key\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
)


class Transport:
    """Implements what the raw path uses of `asyncio.Transport`; keeps what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_complete = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if b'"type":"response.completed"' in data:
            self.is_complete.set()

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def is_closing(self) -> bool:
        return False


class Peer:
    """A client of the raw path."""

    def __init__(self, wire: Any) -> None:
        self.wire = wire
        self.transport = Transport()
        self.previous: str | None = None
        wire.connection_made(self.transport)
        wire.data_received(UPGRADE)

    async def turn(self) -> None:
        """A turn that continues the one before."""
        self.transport.written.clear()
        body = {
            "type": "response.create",
            "model": "test",
            "store": False,
            "tools": [LOOK_UP],
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
            "previous_response_id": self.previous,
        }
        self.wire.data_received(masked_frame(json.dumps(body).encode()))
        await asyncio.wait_for(self.transport.is_complete.wait(), 30)
        self.transport.is_complete.clear()
        end = self.transport.written[-1]
        start = end.index(b'"response":{"id":"', end.index(b'"type":"response.completed"')) + 18
        self.previous = end[start : end.index(b'"', start)].decode()


@contextmanager
def counted(calls: Counter[str]) -> Generator[None]:
    """Count the calls of the package's functions."""

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call" and "/hotloop/" in frame.f_code.co_filename and "/bench/" not in frame.f_code.co_filename:
            calls[f"{frame.f_code.co_filename.rpartition('/hotloop/')[2]} {frame.f_code.co_qualname}"] += 1

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)


async def test_a_steady_turn_makes_few_calls() -> None:
    app = build_app(scripted_model([{"match": "^hello", "turns": [{"text": "Hi."}]}]), ServerSettings(api_key="key"))
    assert app.websocket is not None
    config = Config(cast(Any, None), ws_ping_interval=None)
    peer = Peer(cast(Any, app.websocket)(config, ServerState(), {}))
    for _ in range(WARM_TURNS):
        await peer.turn()
    calls: Counter[str] = Counter()
    with counted(calls):
        for _ in range(TURNS):
            await peer.turn()
    peer.wire.connection_lost(None)
    await app.services.models["test"].close()
    assert app.services.records.counters.turns == WARM_TURNS + TURNS
    assert not app.services.records.counters.fallbacks, "no turn of a chain that is continued takes a slower path"
    per_turn = sum(calls.values()) / TURNS
    assert per_turn <= MOST_CALLS, calls.most_common(60)
