"""A conversation's line to the server: carries each turn to its end, over whatever transport and however many attempts.

A turn that breaks before the model called anything is simply sent again. One that breaks *after* a whole call is not:
the call may be running already. Its items are kept, `Cut` ends the turn, and the next turn, on a new connection with
the full history, brings the call's output. So no call is ever asked for twice and none is lost.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from hotloop.client.conversation import Conversation
from hotloop.client.errors import AgentError, CannotConnect
from hotloop.client.events import Completed, Event, Item, ItemDone, TextDelta, Timing, failure_of
from hotloop.client.recovery import RETRY_DELAYS_S, FallBack, GiveUp, Recovery, Retry
from hotloop.client.transport import Transport


@dataclass(frozen=True, slots=True)
class Cut:
    """The stream broke after a whole call: the turn ends here, its calls are to be answered."""

    reason: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The turn begins again after `delay_s`: text that was streamed so far is void. No call had been made."""

    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class OutputItem:
    """An item that is whole."""

    item: Item


TurnEvent = TextDelta | OutputItem | Timing | Completed | Restarted | Cut


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What a run cost on the wire. Recoveries are counted by reason, fallbacks by why."""

    requests: int
    bytes_out: int
    bytes_in: int
    reconnects: int
    resends: dict[str, int]
    fallbacks: dict[str, int]


class Link:
    """Turns of one conversation; one at a time.

    Args:
        transport: tried first.
        fallback: used from the moment the first one turns out to be blocked; both are closed with the link.
        retry_delays_s: back-off before each retry of a turn.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        fallback: Transport | None = None,
        retry_delays_s: tuple[float, ...] = RETRY_DELAYS_S,
        jitter: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._fallback = fallback
        self._transports = [transport] if fallback is None else [transport, fallback]
        self._recovery = Recovery(delays_s=retry_delays_s, jitter=jitter, can_fall_back=fallback is not None)
        self._sleep = sleep
        self._resends: Counter[str] = Counter()
        self._fallbacks: Counter[str] = Counter()

    @property
    def counters(self) -> LinkCounters:
        traffic = [transport.traffic for transport in self._transports]
        return LinkCounters(
            requests=sum(part.requests for part in traffic),
            bytes_out=sum(part.bytes_out for part in traffic),
            bytes_in=sum(part.bytes_in for part in traffic),
            reconnects=sum(max(0, part.connections - 1) for part in traffic),
            resends=dict(self._resends),
            fallbacks=dict(self._fallbacks),
        )

    async def warm_up(self, conversation: Conversation) -> list[Timing]:
        """Connect and prepare the server; a failure here costs only the preparation, never the run.

        Raises:
            CannotConnect: nobody answers on any transport.
        """
        timings: list[Timing] = []
        try:
            async with aclosing(self._transport.warm_up(conversation)) as events:
                async for event in events:
                    self._recovery.reached()
                    if error := failure_of(event):
                        raise error
                    if isinstance(event, Timing):
                        timings.append(event)
        except CannotConnect as error:
            await self._recover(error)
        except AgentError:
            # docs/protocol.md §12.1: the first turn then goes in full; if it has the same fault, it will show it.
            await self._transport.reset()
        return timings

    async def turn(self, conversation: Conversation) -> AsyncGenerator[TurnEvent, None]:
        """Ask for the next response; ends with `Completed` or `Cut`. What the model said is then in the conversation.

        Raises:
            AgentError: the turn could not be had. Calls it made before it broke are in the conversation all the same.
        """
        while True:
            attempt = _Attempt(conversation)
            try:
                async with aclosing(self._transport.stream(conversation)) as events:
                    async for event in events:
                        self._recovery.reached()
                        if error := failure_of(event):
                            raise error
                        yield attempt.take(event)
                self._recovery.completed()
                return
            except AgentError as error:
                restart = await self._recover(error)
                if attempt.calls:
                    attempt.keep_calls()
                    yield Cut(restart.reason)
                else:
                    yield restart
                await self._sleep(restart.delay_s)
                if attempt.calls:
                    return
            finally:
                attempt.keep_calls()

    async def close(self) -> None:
        """Close both transports. Idempotent."""
        for transport in self._transports:
            await transport.close()

    async def _recover(self, error: AgentError) -> Restarted:
        match self._recovery.decide(error):
            case GiveUp(shown):
                raise shown
            case FallBack(reason):
                await self._switch(reason)
                return Restarted(reason, 0.0)
            case Retry(reason, delay_s, afresh):
                self._resends[reason] += 1
                if afresh:
                    await self._transport.reset()
                return Restarted(reason, delay_s)

    async def _switch(self, reason: str) -> None:
        assert self._fallback is not None, "a fallback was decided without one"
        self._fallbacks[reason] += 1
        await self._transport.reset()
        self._transport = self._fallback


class _Attempt:
    """The items of one attempt, until they belong to the conversation."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._items: list[msgspec.Raw] = []
        self._whole: list[msgspec.Raw] = []
        self._committed = False
        self.calls = False

    def take(self, event: Event) -> TurnEvent:
        match event:
            case ItemDone(raw):
                item = event.read()
                self._items.append(raw)
                if item.is_whole:
                    self._whole.append(raw)
                self.calls = self.calls or item.is_call
                return OutputItem(item)
            case Completed():
                self._commit(self._items)
                return event
            case TextDelta() | Timing():
                return event
            case _:
                raise AssertionError(f"a failed turn got through: {event}")

    def keep_calls(self) -> None:
        """However the attempt ended: calls that were handed out must not vanish from the history."""
        if self.calls and not self._committed:
            self._commit(self._whole)

    def _commit(self, items: list[msgspec.Raw]) -> None:
        self._conversation.commit(items)
        self._committed = True
