"""The transport's side of a connection, without a transport."""

import json
from collections.abc import Iterable
from typing import Any


class RecordingConnectionSink:
    """Implements `server.sinks.ConnectionSink`; keeps what was pushed and the code it was closed with."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.is_closed = False
        self.is_paused = False
        self.bytes_out = 0
        self.code: int | None = None

    def push(self, events: Iterable[bytes]) -> None:
        if not self.is_closed:
            for event in events:
                self.events.append(json.loads(event))
                self.bytes_out += len(event)

    def finish(self, code: int) -> None:
        self.code = code

    def close(self, code: int) -> None:
        self.code = code
        self.is_closed = True
