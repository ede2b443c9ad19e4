"""Any sequence of turns, forks, failures, aborts and evictions: right prompts, and no KV handle left or closed twice.

The toy engine asserts its own contract on the way: never two runs on a handle, never a run on a closed one.
"""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.model_turns import START, Chain, Turn, commit, prepare, user
from tests.support.toy_engine import ToyEngine, ToyRun
from tests.support.toy_format import CharTokenizer, Rewrites, ToyFormat, say, think

from hotloop.models.token_model import TokenModel
from hotloop.models.token_turn import PreparedTokenTurn
from hotloop.seams.engine import EndReason
from hotloop.seams.format import Extension
from hotloop.seams.prompt import PromptContext

CONTEXTS = (PromptContext(instructions="a"), PromptContext(instructions="b"))
ENDING = st.sampled_from(["commit", "commit", "commit", "discard", "discard running", "abort"])
STEP = st.tuples(
    st.sampled_from(["turns", "turns", "turns", "kv lost", "engine fails", "release"]),
    st.integers(0, 20),  # which chain
    st.lists(ENDING, min_size=1, max_size=3),  # turns that run at the same time on that chain
    st.sampled_from([0, 0, 0, 1]),  # which context
)
Step = tuple[str, int, list[str], int]


class Scene:
    """A model and the chains that can be continued. The engine is paused while turns begin, so that they overlap."""

    def __init__(self, engine: ToyEngine, rewrites: Rewrites) -> None:
        self.engine = engine
        self.rewrites = rewrites
        self.model = TokenModel("toy", format=ToyFormat(rewrites), tokenizer=CharTokenizer(), engine=engine)
        self.chains: list[Chain] = [START]

    async def play(self, kind: str, chain: Chain, endings: list[str], context: PromptContext) -> None:
        if kind == "release":
            self.release(chain)
            return
        self.engine.loses_kv = kind == "kv lost"
        self.engine.fails_with = EndReason.UNAVAILABLE if kind == "engine fails" else None
        self.engine.pause()
        turns = [(*await self.begin(chain, context, ending), ending) for ending in endings]
        self.engine.resume()
        for turn, run, ending in turns:
            if ending == "discard running":
                await asyncio.wait_for(run.over.wait(), timeout=60)
                continue
            end = await turn.end()
            if end.error is None and end.reason is EndReason.STOP and ending == "commit":
                self.chains.append(commit(turn))
            else:
                turn.prepared.discard()

    async def begin(self, chain: Chain, context: PromptContext, ending: str) -> tuple[Turn, ToyRun]:
        question = f"q{len(self.engine.runs)}"  # no two chains say the same: KV of another one would be seen
        turn = await prepare(self.model, chain, user(question), context=context)
        turn.start()
        run = self.engine.runs[-1]
        assert isinstance(turn.prepared, PreparedTokenTurn)
        assert run.prompt == log_prompt(turn.prepared), "the KV holds something else"
        if self.rewrites == "never":
            assert run.prompt == full_prompt(self.model, turn), "the engine saw another prompt"
        if ending == "discard running":
            turn.prepared.discard()
        elif ending == "abort":
            turn.prepared.abort()
        return turn, run

    def release(self, chain: Chain) -> None:
        if chain.state is not None:
            self.chains.remove(chain)
            chain.state.release()


def log_prompt(prepared: PreparedTokenTurn) -> list[int]:
    """What the token log says the prompt is."""
    return list(prepared.rendered.view.tokens() + prepared.generation)


def full_prompt(model: TokenModel, turn: Turn) -> list[int]:
    """The naive way: everything rendered from the start."""
    start = model.format.begin(turn.request.context)
    items = list(turn.request.history.extended(turn.request.new_items))
    extension = model.format.extend(start.state, len(start.tokens), items)
    assert isinstance(extension, Extension)
    return list(start.tokens + extension.tokens + model.format.generation_prompt(extension.state))


@pytest.mark.parametrize("rewrites", ["never", "rewind", "fallback", "rewind_at_commit"])
@given(
    steps=st.lists(STEP, max_size=8),
    can_rewind=st.booleans(),
    survives_abort=st.booleans(),
    step=st.integers(1, 4),
)
def test_every_prompt_is_right_and_every_handle_is_closed_once(
    rewrites: Rewrites, steps: list[Step], can_rewind: bool, survives_abort: bool, step: int
) -> None:
    async def scenario() -> None:
        engine = ToyEngine(
            lambda prompt: think("h", say(f"ok {sum(prompt) % 97}")),
            can_rewind=can_rewind,
            survives_abort=survives_abort,
            step=step,
        )
        scene = Scene(engine, rewrites)
        for kind, choice, endings, context in steps:
            await scene.play(kind, scene.chains[choice % len(scene.chains)], endings, CONTEXTS[context])
        for chain in list(scene.chains):
            scene.release(chain)
        assert engine.open_handles == 0, "a KV handle was left open"
        assert all(handle.close_calls == 1 for handle in engine.handles), "a KV handle was closed twice"

    asyncio.run(scenario())
