"""Runs turns (`turns/turn.py`) for the doors: for one that waits, and for one that is called back."""

import asyncio
from collections.abc import Callable

import msgspec

from hotloop.seams.sink import Sink
from hotloop.turns.keep_alive import KeepAlive
from hotloop.turns.services import TurnServices
from hotloop.turns.turn import Turn
from hotloop.turns.turn_request import TurnOutcome, TurnRequest


class TurnRunner:
    """Runs turns on the services given."""

    def __init__(self, services: TurnServices) -> None:
        self.services = services
        self._keep_alive = KeepAlive(services.silence_s, services.turn_timeout_s)

    def turn(self, request: TurnRequest, sink: Sink, on_over: Callable[[TurnOutcome], None]) -> Turn:
        """A turn that pushes its events to `sink`; `on_over` is called once, last. It is for the door to `begin` it."""
        return Turn(self.services, request, sink, self._keep_alive, on_over)

    async def run(self, request: TurnRequest, sink: Sink) -> TurnOutcome:
        """Run one turn to its end. Cancelling it stops the engine and leaves nothing behind."""
        over: asyncio.Future[TurnOutcome] = asyncio.get_running_loop().create_future()

        def on_over(outcome: TurnOutcome) -> None:
            if not over.done():
                over.set_result(outcome)

        turn = self.turn(request, sink, on_over)
        turn.begin()
        try:
            outcome = await over
        except asyncio.CancelledError:
            turn.abandon()
            await turn.settled()
            raise
        # Numbered behind what was said since the terminal event.
        return outcome if outcome.ending is None else msgspec.structs.replace(outcome, ending=turn.ending())
