"""An engine that plays turns from a script, as tokens, through the format of a real model.

It stands in for a model wherever the answer must be known beforehand: demos, tests, benches of everything around the engine.
What surrounds the tokens behaves like a real engine: KV that is held, rewound, forked, lost and found again, prefill before
the first token, steps, limits, log-probabilities, failures. The grammar of a turn is not compiled: the script, or what is
made up without one, follows the turn's rules by construction.
"""

import asyncio
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable

from hotloop.engines.scripted.kv import KvPool, common_prefix
from hotloop.engines.scripted.play import Director, Performance, Place, Scene, place_of
from hotloop.engines.scripted.run import ScriptedRun
from hotloop.engines.scripted.script import Script
from hotloop.seams.engine import (
    Constraint,
    EndCallback,
    EndReason,
    KvHandle,
    Sampling,
    StepCallback,
)
from hotloop.seams.format import Format
from hotloop.seams.prompt import TurnView
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.principal import Tenant
from hotloop.session.token_log import TokenView

_PREPARED_TURNS_KEPT = 256


class ScriptedEngine:
    """Implements `seams.engine.Engine`. Lives on one event loop.

    Args:
        script: what to play.
        format: writes the turns as tokens.
        tokenizer: of the same vocabulary; only its size is used.
        context_tokens: most tokens of one chain.
        kept_tokens: tokens of closed chains kept for prefix reuse.
        clock: seconds; a modelled speed is kept by it.
    """

    def __init__(
        self,
        script: Script,
        format: Format,
        tokenizer: Tokenizer,
        *,
        context_tokens: int = 1_048_576,
        kept_tokens: int = 4_194_304,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.script = script
        self.clock = clock
        self.pool = KvPool(kept_tokens)
        self.runs: set[ScriptedRun] = set()
        self.handles: set[ScriptedHandle] = set()
        self.is_closed = False
        self.vocabulary_size = tokenizer.vocabulary_size
        self._director = Director(script)
        self._format = format
        self.context_tokens = context_tokens  # most tokens one chain may hold
        self._prepared: OrderedDict[object, tuple[Performance, array[int]]] = OrderedDict()
        self._failures: dict[tuple[int, int], int] = {}  # by conversation and turn

    @property
    def name(self) -> str:
        """Kind of engine."""
        return "scripted"

    @property
    def kv_use(self) -> None:
        """There is no KV."""
        return None

    def open(self, tokens: TokenView, *, parent: KvHandle | None, tenant: Tenant) -> "ScriptedHandle":
        """See `Engine.open`."""
        ids = tokens.tokens()
        if isinstance(parent, ScriptedHandle) and parent.tenant == tenant and not parent.is_closed:
            held = common_prefix(parent.held_ids().tobytes(), ids.tobytes())
        else:
            held = self.pool.take(tenant, ids)
        handle = ScriptedHandle(self, ids, held, tenant)
        self.handles.add(handle)
        return handle

    async def close(self) -> None:
        """See `Engine.close`."""
        self.is_closed = True
        for run in list(self.runs):
            run.end(EndReason.ABORTED)
        for handle in list(self.handles):
            handle.close()
        self.pool.clear()

    def perform(self, place: Place, turn: TurnView) -> "tuple[Performance, array[int]]":
        """What a turn plays, and its tokens."""
        scene = self._director.find(place)
        if not turn.context.digest or (scene is not None and scene.looks_back):
            return self._prepare(scene, turn)
        key = (scene, turn.context.digest, turn.rules)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = self._prepared[key] = self._prepare(scene, turn)
            if len(self._prepared) > _PREPARED_TURNS_KEPT:
                self._prepared.popitem(last=False)
        return prepared

    def _prepare(self, scene: Scene | None, turn: TurnView) -> "tuple[Performance, array[int]]":
        performance = self._director.perform(scene, turn)
        if performance.problem:
            return performance, array("I")
        return performance, self._format.encode_items(turn.context, performance.items)

    def fails_now(self, performance: Performance) -> bool:
        """The turn's failure is due; counts it."""
        fail, scene = performance.fail, performance.scene
        if fail is None or scene is None:
            return False
        turn = (scene.conversation, scene.turn)
        played = self._failures.get(turn, 0)
        self._failures[turn] = played + 1
        return fail.times is None or played < fail.times

    def die(self) -> None:
        """The pretended host process dies: every KV is lost, every run fails."""
        self.pool.clear()
        for handle in self.handles:
            handle.lose()
        for run in list(self.runs):
            run.end(EndReason.UNAVAILABLE, "the scripted engine host died")


class ScriptedHandle:
    """Implements `seams.engine.KvHandle`: the ids of a chain, and how many of them have KV."""

    can_rewind = True
    can_fork = True
    survives_abort = True

    def __init__(self, engine: ScriptedEngine, ids: "array[int]", held: int, tenant: Tenant) -> None:
        self.tenant = tenant
        self.is_closed = False
        self.ids = ids
        self.held = held  # tokens from the start with KV
        self._engine = engine
        self.run: ScriptedRun | None = None  # the one under way
        self.is_lost = False
        self._has_run = False
        self._place: Place | None = None  # how far the items had come,
        self._place_tokens = 0  # and the prompt that said so

    def held_ids(self) -> "array[int]":
        """The tokens that have KV."""
        if self.run is not None:
            self.run.book()
        return self.ids[: self.held]

    def lose(self) -> None:
        """The KV is gone: the next run needs the full prompt."""
        self.held = 0
        self.is_lost = True

    def generate(
        self,
        keep: int,
        new: "array[int]",
        *,
        sampling: Sampling,
        constraint: Constraint | None,
        turn: TurnView,
        on_step: StepCallback,
        on_end: EndCallback,
    ) -> "ScriptedRun":
        """See `KvHandle.generate`. `constraint` is not compiled; the turn's rules are followed instead."""
        assert self.run is None, "one run at a time"
        assert not self.is_closed, "the handle is closed"
        engine = self._engine
        loop = asyncio.get_running_loop()
        self.run = run = ScriptedRun(engine, self, sampling, on_step, on_end, loop, loop.time())
        engine.runs.add(run)
        if engine.is_closed:
            run.schedule_end(EndReason.UNAVAILABLE, "the scripted engine is closed")
            return run
        if self.is_lost or keep > len(self.ids):
            run.schedule_end(EndReason.NEEDS_FULL_PROMPT)
            return run
        known = self._place
        if known is not None and (keep < self._place_tokens or known.length > len(turn.history) + len(turn.new_items)):
            known = None  # tokens kept up to the last prompt mean that its items are still there, at the same place
        place = place_of(turn, known)
        performance, output = engine.perform(place, turn)
        if performance.lose_kv and self._has_run and sampling.max_tokens:
            self.lose()
            run.schedule_end(EndReason.NEEDS_FULL_PROMPT)
            return run
        self._has_run = True
        self._place, self._place_tokens = place, keep + len(new)
        run.start(keep, new, performance, output)
        return run

    def close(self) -> None:
        """See `KvHandle.close`. The KV stays findable for chains that begin alike."""
        if self.is_closed:
            return
        self.is_closed = True
        self._engine.handles.discard(self)
        if self.run is not None:
            self.run.abort()
        if not self._engine.is_closed:
            self._engine.pool.put(self.tenant, self.held_ids())
        self.ids = array("I")
        self.held = 0
