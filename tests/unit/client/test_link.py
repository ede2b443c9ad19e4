import asyncio
from collections.abc import AsyncGenerator

from hotloop.client.conversation import Conversation
from hotloop.client.errors import ConnectionLost
from hotloop.client.events import Completed, Event, Response, TextDelta
from hotloop.client.link import Link, Restarted, TurnEvent
from hotloop.client.transport import Traffic

COMPLETED = Completed(Response("resp_1"))


class Attempts:
    """A transport without a wire: each attempt yields its events, then breaks unless they end the turn."""

    def __init__(self, *attempts: list[Event]) -> None:
        self._attempts = list(attempts)
        self.traffic = Traffic()
        self.resets = 0

    async def warm_up(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        for event in self._attempts.pop(0):
            yield event

    async def stream(self, conversation: Conversation) -> AsyncGenerator[Event, None]:
        for event in self._attempts.pop(0):
            yield event
            if event is COMPLETED:
                return
        raise ConnectionLost("the script ends")

    async def reset(self) -> None:
        self.resets += 1

    async def close(self) -> None:
        pass


def test_a_broken_turn_waits_longer_each_time_then_completes() -> None:
    waits_s: list[float] = []

    async def note(seconds: float) -> None:
        waits_s.append(seconds)

    async def carry() -> list[TurnEvent]:
        transport = Attempts([TextDelta("a")], [], [TextDelta("b"), COMPLETED])
        link = Link(transport, retry_delays_s=(1.0, 5.0), jitter=lambda: 0.0, sleep=note)
        events = [event async for event in link.turn(Conversation(model="m", instructions="", tools=[]))]
        assert transport.resets == 2
        assert link.counters.resends == {"connection_lost": 2}
        return events

    assert asyncio.run(carry()) == [
        TextDelta("a"),
        Restarted("connection_lost", 1.0),
        Restarted("connection_lost", 5.0),
        TextDelta("b"),
        COMPLETED,
    ]
    assert waits_s == [1.0, 5.0]
