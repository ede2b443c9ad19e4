"""A WebSocket door over the toy pipeline."""

import asyncio
from typing import Any

from tests.support.asgi_client import WebSocketPeer
from tests.support.toy_engine import ToyEngine
from tests.support.turns import Pipeline

from hotloop.decoding.reader import MessageReader
from hotloop.protocol.connection import Limits
from hotloop.server.auth import AccessPolicy
from hotloop.server.connections import OpenConnections
from hotloop.server.served_connection import SocketSettings
from hotloop.server.websocket import ResponsesSocket


class Server:
    """A WebSocket door over a toy pipeline."""

    def __init__(
        self, pipeline: Pipeline | None = None, *, api_key: str = "", max_pending_bytes: int = 2**20, **limits: Any
    ) -> None:
        self.pipeline = pipeline or Pipeline()
        self.open = OpenConnections()
        settings = SocketSettings(Limits(**limits), max_pending_bytes)
        self.door = ResponsesSocket(
            self.pipeline.runner, AccessPolicy(api_key), settings, self.open, MessageReader(2**20)
        )

    @property
    def engine(self) -> ToyEngine:
        return self.pipeline.engine

    async def connect(self, **headers: str) -> WebSocketPeer:
        peer = WebSocketPeer(self.door, {name.replace("_", "-"): value for name, value in headers.items()})
        return await peer.accepted()

    async def next_run(self) -> None:
        """Until the engine got one more run."""
        await asyncio.wait_for(self.engine.has_run.wait(), timeout=60)
        self.engine.has_run.clear()

    def check_nothing_is_left(self) -> None:
        assert len(self.open) == 0
        self.pipeline.services.prefixes.clear()  # lets go of what it keeps of the engine
        assert self.engine.open_handles == 0, "a KV handle, and so a pin, was left"
        assert all(run.is_over for run in self.engine.runs)
