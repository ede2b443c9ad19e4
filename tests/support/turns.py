"""A turn pipeline over the toy model, without a server: what a test of turns, doors or leases starts from."""

import itertools
import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import CharTokenizer, Rewrites, ToyFormat

from hotloop.errors import StorageUnavailable
from hotloop.ledger.memory import MemoryLedger
from hotloop.models.token_model import ModelDefaults, TokenModel
from hotloop.protocol.request import ResponseCreate, decode_create
from hotloop.safety.patterns import PatternPolicy
from hotloop.safety.sealing import KeyRing, new_key
from hotloop.seams.store import Addition, Store, StoredResponse
from hotloop.session.chain_cache import CacheLimits, ChainCache
from hotloop.session.model_context import ContextCache
from hotloop.session.prefix_index import IndexLimits, PrefixIndex
from hotloop.session.principal import Principal
from hotloop.storage.memory import MemoryStore
from hotloop.turns.record import RecordRing, TurnRecord
from hotloop.turns.runner import TurnRunner
from hotloop.turns.services import TurnServices
from hotloop.turns.turn_request import TurnOutcome, TurnRequest

ME = Principal()


class RecordingSink:
    """Implements `seams.sink.Sink`; keeps what was pushed. `closes_after` events the client counts as gone."""

    def __init__(self, closes_after: int | None = None) -> None:
        self.sent: list[bytes] = []
        self.is_paused = False
        self.bytes_out = 0
        self._closes_after = closes_after

    @property
    def is_closed(self) -> bool:
        return self._closes_after is not None and len(self.sent) >= self._closes_after

    def push(self, events: Iterable[bytes]) -> None:
        for event in events:
            self.sent.append(event)
            self.bytes_out += len(event)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Everything pushed, decoded."""
        return [json.loads(event) for event in self.sent]

    @property
    def types(self) -> list[str]:
        """The types of everything pushed, without their common prefix."""
        return [event["type"].removeprefix("response.") for event in self.events]


class Pipeline:
    """Everything a turn needs, in memory, around one toy engine."""

    def __init__(
        self,
        engine: ToyEngine | None = None,
        *,
        store: Store | None = None,
        block: Mapping[str, str] | None = None,
        flag: Mapping[str, str] | None = None,
        limits: CacheLimits | None = None,
        prefix_limits: IndexLimits | None = None,
        turn_timeout_s: float = 60.0,
        rewrites: Rewrites = "never",
        parser_fault: str = "",
    ) -> None:
        numbers = itertools.count(1)
        self.engine = engine or ToyEngine()
        self.format = ToyFormat(rewrites, parser_fault)
        self.model = TokenModel(
            "toy",
            format=self.format,
            tokenizer=CharTokenizer(),
            engine=self.engine,
            defaults=ModelDefaults(temperature=0.5),
        )
        self.store = MemoryStore() if store is None else store
        self.ledger = MemoryLedger()
        self.chains = ChainCache(limits)
        self.records = RecordRing()
        self.services = TurnServices(
            models={"toy": self.model},
            store=self.store,
            ledger=self.ledger,
            classifier=PatternPolicy(flag, block),
            chains=self.chains,
            contexts=ContextCache(),
            sealer=KeyRing([new_key()]),
            records=self.records,
            new_id=lambda prefix: f"{prefix}_{next(numbers)}",
            turn_timeout_s=turn_timeout_s,
            prefixes=PrefixIndex(prefix_limits),
        )
        self.runner = TurnRunner(self.services)

    @property
    def prompt(self) -> str:
        """What the engine saw last, written out."""
        return written(self.engine.runs[-1].prompt)

    async def run(
        self, sink: RecordingSink | None = None, *, connection: int | None = 1, lane: str | None = None, **fields: Any
    ) -> TurnOutcome:
        """One turn from its JSON fields to its end."""
        return await self.runner.run(self.turn(connection=connection, lane=lane, **fields), sink or RecordingSink())

    async def run_turn(self, turn: TurnRequest) -> TurnOutcome:
        """A turn that a test has made itself."""
        return await self.runner.run(turn, RecordingSink())

    def turn(
        self, *, connection: int | None = 1, lane: str | None = None, wants_timing: bool = False, **fields: Any
    ) -> TurnRequest:
        """What a door would hand over."""
        return TurnRequest(
            principal=ME,
            request=create(**fields),
            record=TurnRecord(received=1e-9),
            connection=connection,
            lane=lane,
            wants_timing=wants_timing,
        )


def create(**fields: Any) -> ResponseCreate:
    """A request to the toy model."""
    return decode_create(json.dumps({"model": "toy", **fields}).encode())


def body(outcome: TurnOutcome) -> dict[str, Any]:
    """The terminal response object."""
    found: dict[str, Any] = json.loads(outcome.body)
    return found


def written(ids: Iterable[int]) -> str:
    """Token ids as text, markers spelled out."""
    tokenizer = CharTokenizer()
    return b"".join(tokenizer.piece(token) for token in array("I", ids)).decode()


class BrokenStore(MemoryStore):
    """A store whose disk is full."""

    async def put(self, principal: Principal, response: StoredResponse, addition: Addition | None = None) -> None:
        raise StorageUnavailable("The disk is full.")


def ledger_outcomes(pipeline: Pipeline) -> list[str]:
    """How each attempt ended."""
    return [row.ended.outcome if row.ended is not None else "running" for row in pipeline.ledger.rows()]
