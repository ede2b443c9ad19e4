"""Whose KV a turn runs on, and what happens where the engine keeps none."""

from tests.support.model_turns import START, make, ran, release, run, user
from tests.support.toy_engine import ToyEngine

from hotloop.errors import EngineUnavailable


async def test_a_fork_never_sees_its_siblings_kv() -> None:
    engine = ToyEngine()
    model = make(engine)
    root = await ran(model, START, user("root"))
    one = await ran(model, root, user("one"))
    other = await ran(model, root, user("other"))  # the handle stands at the end of `one`
    last = await ran(model, one, user("last"))
    seen = "".join(chr(token) for token in engine.runs[-1].prompt if token < 0x110000)
    assert ("root" in seen, "one" in seen, "other" in seen) == (True, True, False)
    release(root, one, other, last)
    assert engine.open_handles == 0


async def test_an_engine_that_loses_the_kv_again_fails_the_turn() -> None:
    engine = ToyEngine()
    engine.loses_kv = 10
    turn = await run(make(engine), START, user("q"))
    assert isinstance(turn.ends[0].error, EngineUnavailable)
    assert len(engine.runs) == 2
    turn.prepared.discard()
    assert engine.open_handles == 0
