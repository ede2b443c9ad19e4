"""What a cached turn weighs, against what the chain cache accounts for it (docs/measurements.md)."""

import gc
import logging
import tracemalloc

from hotloop.bench.workload import create, encoded, question
from hotloop.engines.llama import GgufTokenizer
from hotloop.engines.scripted import ScriptedEngine, script_of
from hotloop.formats import format_for_template
from hotloop.models.token_model import TokenModel
from hotloop.protocol.request import decode_create
from hotloop.safety.patterns import PatternPolicy
from hotloop.safety.sealing import KeyRing, new_key
from hotloop.seams.ledger import AttemptEnded, AttemptStarted
from hotloop.server.sinks import DiscardSink
from hotloop.session.chain_cache import CacheLimits, ChainCache
from hotloop.session.model_context import ContextCache
from hotloop.session.principal import Principal
from hotloop.storage.memory import MemoryStore
from hotloop.tiny import model_path
from hotloop.turns.bind import bind_cached
from hotloop.turns.record import RecordRing, TurnRecord
from hotloop.turns.runner import TurnRunner
from hotloop.turns.services import TurnServices
from hotloop.turns.turn_request import RunningTurn, TurnRequest

logger = logging.getLogger(__name__)

CONNECTION = 1
TURNS = 400
SCRIPT = {"scripts": [{"match": "^", "turns": [{"text": "The value was not what we want here."}]}]}


class ForgetfulLedger:
    """Keeps nothing: only the cached turns are to be weighed."""

    def attempt_started(self, event: AttemptStarted) -> None: ...

    def attempt_ended(self, event: AttemptEnded) -> None: ...


class Weighed:
    """A chain on one connection whose turns all stay in the cache."""

    def __init__(self) -> None:
        tokenizer = GgufTokenizer(str(model_path()))
        assert tokenizer.chat_template is not None
        format_ = format_for_template(tokenizer.chat_template, tokenizer)
        self.engine = ScriptedEngine(script_of(SCRIPT), format_, tokenizer)
        self.chains = ChainCache(CacheLimits(entries_per_connection=10 * TURNS))
        self.runner = TurnRunner(
            TurnServices(
                models={"scripted": TokenModel("scripted", format=format_, tokenizer=tokenizer, engine=self.engine)},
                store=MemoryStore(),
                ledger=ForgetfulLedger(),
                classifier=PatternPolicy(),
                chains=self.chains,
                contexts=ContextCache(),
                sealer=KeyRing([new_key()]),
                records=RecordRing(1),
            )
        )
        self.latest: str | None = None

    async def turns(self, count: int) -> None:
        for number in range(count):
            request = decode_create(encoded(create("scripted", [question("short", number)], previous=self.latest)))
            turn = TurnRequest(
                principal=Principal(),
                request=request,
                record=TurnRecord(),
                connection=CONNECTION,
                parent=bind_cached(self.chains, Principal(), CONNECTION, self.latest),
                on_created=self._created,
            )
            outcome = await self.runner.run(turn, DiscardSink())
            assert outcome.error is None, outcome.error

    def _created(self, turn: RunningTurn) -> None:
        self.latest = turn.response_id

    def measured(self) -> int:
        """Bytes in use, the engine's own ids left out."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - sum(4 * len(handle.ids) for handle in self.engine.handles)


async def test_the_cache_accounts_for_about_what_a_turn_weighs() -> None:
    tracemalloc.start()
    try:
        chain = Weighed()
        await chain.turns(TURNS)
        accounted, measured = chain.chains.total_bytes, chain.measured()
        await chain.turns(TURNS)
        accounted, measured = chain.chains.total_bytes - accounted, chain.measured() - measured
    finally:
        tracemalloc.stop()
    await chain.engine.close()
    logger.info("per cached turn: %d bytes measured, %d accounted", measured // TURNS, accounted // TURNS)
    assert accounted / 2 <= measured <= accounted * 1.5
