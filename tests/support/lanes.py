"""A WebSocket whose lanes are read side by side: each event goes to the lane that it names."""

import json
from collections import defaultdict
from typing import Any

from tests.support.live_server import TERMINAL, Event, Socket

Lane = str | None


class Lanes:
    """One connection. What was read of a lane and not yet taken waits for it."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket
        self._arrived: defaultdict[Lane, list[Event]] = defaultdict(list)

    async def create(self, lane: Lane, **fields: Any) -> None:
        """Send a `response.create` on a lane."""
        await self._socket.send(**({} if lane is None else {"stream_id": lane}), **fields)

    async def say(self, **fields: Any) -> None:
        """Send any client event."""
        await self._socket.send_text(json.dumps(fields))

    async def next_event(self, lane: Lane) -> Event:
        """The next event of the lane."""
        while not self._arrived[lane]:
            event = await self._socket.receive()
            self._arrived[event.get("stream_id")].append(event)
        return self._arrived[lane].pop(0)

    async def until(self, lane: Lane, *types: str) -> list[Event]:
        """Events of the lane, up to and with the first of one of `types`; by default a terminal event or an error."""
        events = [await self.next_event(lane)]
        while events[-1]["type"] not in (types or TERMINAL):
            events.append(await self.next_event(lane))
        return events

    async def turn(self, lane: Lane, **fields: Any) -> list[Event]:
        """Send a create and read its events."""
        await self.create(lane, **fields)
        return await self.until(lane)
