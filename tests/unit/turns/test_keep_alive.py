import asyncio

from tests.support.event_order import check_response_events
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import say
from tests.support.turns import Pipeline, RecordingSink
from tests.support.virtual_time import run_virtual

from hotloop.turns.keep_alive import KeepAlive

SILENCE_S = 15.0


class TimedSink(RecordingSink):
    """Notes when each event came."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def push(self, events: "list[bytes]") -> None:  # type: ignore[override]  # the runner pushes lists
        before = len(self.sent)
        super().push(events)
        self.times += [asyncio.get_running_loop().time()] * (len(self.sent) - before)


def test_a_silent_turn_repeats_in_progress_before_the_silence_is_too_long() -> None:
    async def main() -> None:
        pipeline, sink = Pipeline(turn_timeout_s=1000), TimedSink()
        pipeline.engine.pause()
        turn = asyncio.create_task(pipeline.run(sink, input="hi"))
        await asyncio.sleep(100)
        pipeline.engine.resume()
        await turn
        check_response_events(sink.events)
        gaps = [after - before for before, after in zip(sink.times, sink.times[1:], strict=False)]
        assert max(gaps) <= SILENCE_S
        assert 100 / SILENCE_S <= sink.types.count("in_progress") <= 2 * 100 / SILENCE_S + 1
        await asyncio.sleep(100)
        assert sink.types[-1] == "completed", "nothing follows the end"

    run_virtual(main())


def test_a_turn_that_talks_is_left_alone_also_in_the_middle_of_an_item() -> None:
    async def main() -> None:
        pipeline, sink = Pipeline(ToyEngine(lambda prompt: say("some words"), step=1)), TimedSink()
        pipeline.engine.pause()
        turn = asyncio.create_task(pipeline.run(sink, input="hi"))
        while not turn.done():
            await asyncio.sleep(5)
            pipeline.engine.advance()
        check_response_events(sink.events)
        assert sink.types.count("in_progress") == 1

    run_virtual(main())


def test_a_silent_turn_whose_client_is_gone_stops_the_engine() -> None:
    async def main() -> None:
        pipeline, sink = Pipeline(), RecordingSink(closes_after=2)
        pipeline.engine.pause()
        outcome = await pipeline.run(sink, input="hi")
        assert outcome.body == b"{}"
        assert pipeline.engine.runs[0].is_aborted

    run_virtual(main())


def test_a_turn_that_is_over_is_left_alone() -> None:
    class Quiet:
        bytes_out = 0

        def speak(self) -> None:
            raise AssertionError("not watched")

        def time_out(self) -> None:
            raise AssertionError("not watched")

    async def main() -> None:
        keep_alive = KeepAlive(SILENCE_S, 3600.0)
        turn = Quiet()
        keep_alive.watch(turn)
        keep_alive.forget(turn)
        keep_alive.forget(turn)
        await asyncio.sleep(100)

    run_virtual(main())
