"""What every turn needs, wired once by the application."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from hotloop.errors import MissingParameter, ModelNotFound
from hotloop.protocol.echo import ContextEcho
from hotloop.protocol.offer import Offer
from hotloop.protocol.response import ReasoningEvents
from hotloop.seams.classifier import Classifier
from hotloop.seams.hosted_tools import ToolServers
from hotloop.seams.ledger import UsageLedger
from hotloop.seams.model import Model
from hotloop.seams.prompt import PromptContext
from hotloop.seams.remote import RemoteContent
from hotloop.seams.sealer import Sealer
from hotloop.seams.store import Store
from hotloop.seams.surveyor import Surveyor
from hotloop.session.canonical import ItemDigests
from hotloop.session.chain_cache import ChainCache
from hotloop.session.model_context import ContextCache
from hotloop.session.prefix_index import PrefixIndex
from hotloop.session.raw_texts import RawTexts
from hotloop.turns.conversation import ConversationLocks
from hotloop.turns.record import RecordRing

_ID_DIGITS = 32


class FreshIds:
    """Ids nobody can guess: prefix, underscore, 32 hex digits. Randomness is taken in blocks: asking costs a system call."""

    def __init__(self, ids_per_block: int = 64) -> None:
        self._block_digits = ids_per_block * _ID_DIGITS
        self._digits = ""
        self._next = 0

    def __call__(self, prefix: str) -> str:
        """A fresh id."""
        start = self._next
        if start >= len(self._digits):
            self._digits = secrets.token_hex(self._block_digits // 2)
            start = 0
        self._next = start + _ID_DIGITS
        return f"{prefix}_{self._digits[start : self._next]}"


@dataclass(frozen=True, slots=True)
class ModelContext:
    """What follows from a request's instructions and tools. `tools` are these as they came."""

    offer: Offer
    prompt: PromptContext
    echo: ContextEcho
    tools: msgspec.Raw


@dataclass(frozen=True, slots=True)
class TurnServices:
    """The seams a turn runs on.

    `turn_timeout_s` bounds one turn from admission to its terminal event, `silence_s` the time without any event in it.
    """

    models: Mapping[str, Model]
    store: Store
    ledger: UsageLedger
    classifier: Classifier
    chains: ChainCache
    contexts: ContextCache
    records: RecordRing
    sealer: Sealer
    new_id: Callable[[str], str] = field(default_factory=FreshIds)
    turn_timeout_s: float = 3600.0
    silence_s: float = 15.0  # docs/design.md §5
    prefixes: PrefixIndex = field(default_factory=PrefixIndex)
    item_digests: ItemDigests = field(default_factory=ItemDigests)
    raw_texts: RawTexts = field(default_factory=RawTexts)
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])  # other names for a model
    conversations: ConversationLocks = field(default_factory=ConversationLocks)
    reasoning_events: ReasoningEvents = "openai"
    surveyor: Surveyor | None = None  # None: every input is read by the turn itself
    remote: RemoteContent | None = None  # None: no URL of a request is fetched
    tool_servers: ToolServers | None = None  # None: none is configured
    remembers: bool = True  # False: no rendered state is kept and no history recognised; for measuring

    def model(self, name: str | None) -> Model:
        """The model served under `name`; raises MissingParameter or ModelNotFound."""
        if not name:
            raise MissingParameter("model")
        model = self.models.get(self.aliases.get(name, name))
        if model is None:
            raise ModelNotFound(name)
        return model
