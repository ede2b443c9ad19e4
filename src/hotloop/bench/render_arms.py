"""One family's conversation, and the four ways from its next turn to the prompt that `hotloop bench render` compares.

extend      the chain is continued: its tokens and render state are there, the new items are rendered
rerender    the same items, everything rendered from the start
recognise   the whole history as the bytes of a request: found in the prefix index, the new items rendered
resend      the same bytes, nothing remembered: parsed and rendered from the start
"""

import asyncio
import gc
import time
import tracemalloc
from array import array
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TypeVar

from hotloop.bench.answers import BenchError
from hotloop.bench.workload import Json, encoded, history, post
from hotloop.engines.scripted import ScriptedEngine, script_of
from hotloop.ledger.memory import MemoryLedger
from hotloop.models.token_model import TokenModel
from hotloop.models.token_state import TokenState, TurnSetup
from hotloop.protocol.items import Item
from hotloop.protocol.request import decode_create, decode_input
from hotloop.safety.patterns import PatternPolicy
from hotloop.safety.sealing import KeyRing, new_key
from hotloop.seams.engine import Sampling
from hotloop.seams.format import Extension, Fallback, Format, RenderState
from hotloop.seams.model import ModelRequest, PreparedTurn, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.chain import open_calls_in
from hotloop.session.chain_cache import ChainCache
from hotloop.session.item_log import ItemLog
from hotloop.session.model_context import ContextCache
from hotloop.session.prefix_index import HistoryPoint, extend_history, history_start
from hotloop.session.principal import Principal
from hotloop.session.token_log import TokenView
from hotloop.storage.memory import MemoryStore
from hotloop.turns.admission import admit
from hotloop.turns.history import read_input
from hotloop.turns.record import RecordRing
from hotloop.turns.services import TurnServices

NEW_TOKENS = 500
CONTEXT_TOKENS = 2**22
_NAME = "bench"
_SCRIPT = {"scripts": [{"match": "^", "turns": [{"text": "ok"}]}]}
_PROBE_CHARS = 50_000
_T = TypeVar("_T")
MakeFormat = Callable[[Tokenizer], Format]


class EveryMark:
    """A vocabulary in which every control token that a family asks for exists; missing ones get ids behind its end."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added: list[str] = []
        self._ids: dict[str, int] = {}  # a look-up is to cost here what it costs in a vocabulary

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.vocabulary_size + len(self._added)

    def encode(self, text: str) -> "array[int]":
        return self._tokenizer.encode(text)

    def special(self, text: str) -> int | None:
        known = self._ids.get(text)
        return self._learned(text) if known is None else known

    def piece(self, token: int) -> bytes:
        size = self._tokenizer.vocabulary_size
        return self._tokenizer.piece(token) if token < size else self._added[token - size].encode()

    def _learned(self, text: str) -> int:
        found = self._tokenizer.special(text)
        if found is None:
            found = self.vocabulary_size
            self._added.append(text)
        self._ids[text] = found
        return found


class Chain:
    """A tool loop of about `tokens` whose last call is to be answered with a text of `NEW_TOKENS`.

    Args:
        make: the family's format for a tokenizer; what it raises is a BenchError's matter of the caller.
        chars_per_token: of tool output, everything around it included.
    """

    def __init__(self, make: MakeFormat, tokenizer: Tokenizer, tokens: int, scale: "Scale") -> None:
        format_ = make(EveryMark(tokenizer))
        engine = ScriptedEngine(script_of(_SCRIPT), format_, tokenizer, context_tokens=CONTEXT_TOKENS)
        self._model = TokenModel(_NAME, format=format_, tokenizer=tokenizer, engine=engine)
        self._services = TurnServices(
            models={_NAME: self._model},
            store=MemoryStore(),
            ledger=MemoryLedger(),
            classifier=PatternPolicy(),
            chains=ChainCache(),
            contexts=ContextCache(),
            sealer=KeyRing([new_key()]),
            records=RecordRing(1),
        )
        sent, new = conversation(scale.chars(tokens), scale.chars_of_text(NEW_TOKENS))
        self._body = encoded(post(_NAME, [*sent, new]))
        self._request = decode_create(self._body)
        *self._base, self._new = decode_input(self._request.input)
        self._history = ItemLog(self._base)
        self._context = self._admitted_context()
        self._state = self._rendered_base()
        self._enter()

    @property
    def prompt_tokens(self) -> int:
        """Of the whole turn."""
        return self.extend().prompt_tokens

    def extend(self) -> PreparedTurn:
        """The turn, continued."""
        return _at_once(self._model.prepare(self._model_request(self._history, [self._new], self._state)))

    def rerender(self) -> PreparedTurn:
        """The turn, rendered from the start."""
        items = [*self._base, self._new]
        return asyncio.run(self._model.prepare(self._model_request(ItemLog(), items, None)))

    def recognise(self) -> PreparedTurn:
        """The request's bytes, recognised. Raises BenchError if they were not."""
        request = decode_create(self._body)
        given = _at_once(read_input(self._services, Principal(), request.input))
        admitted = admit(self._services, Principal().tenant, request, None, given)
        try:
            if len(admitted.new_items) != 1:
                raise BenchError("the history was not recognised")
            return _at_once(admitted.model.prepare(admitted.model_request(Principal().tenant)))
        finally:
            admitted.release()

    def resend(self) -> PreparedTurn:
        """The request's bytes, rendered from the start."""
        request = decode_create(self._body)
        items = decode_input(request.input)
        return asyncio.run(self._model.prepare(self._model_request(ItemLog(), items, None)))

    def _model_request(self, before: ItemLog, new: list[Item], parent: TokenState | None) -> ModelRequest:
        return ModelRequest(
            tenant=Principal().tenant,
            context=self._context,
            rules=CallRules(),
            wishes=SamplingWishes(),
            history=before,
            new_items=new,
            parent=parent,
        )

    def _admitted_context(self) -> PromptContext:
        given = _at_once(read_input(self._services, Principal(), self._request.input))
        return admit(self._services, Principal().tenant, self._request, None, given).context.prompt

    def _rendered_base(self) -> TokenState:
        format_ = self._model.format
        start = format_.begin(self._context)
        base = _extension(format_.extend(start.state, len(start.tokens), self._base))
        view = TokenView.of(start.tokens, self._model.log).head(base.keep).append(base.tokens)
        setup = TurnSetup(self._context, CallRules(), SamplingWishes(), None, Sampling(max_tokens=0))
        return TokenState(self._model, setup, view, base.state, None, None)

    def _enter(self) -> None:
        given = _at_once(read_input(self._services, Principal(), self._request.input))
        tenant = Principal().tenant
        place = extend_history(history_start(tenant), given.digests[:-1])[-1]
        point = HistoryPoint(self._history, open_calls_in(self._base), self._state.share(), 0)
        self._services.prefixes.enter(tenant, self._context.digest, place, point, behind=None, warm=False)


class Scale:
    """How text becomes tokens in one family's prompts."""

    def __init__(self, make: MakeFormat, tokenizer: Tokenizer) -> None:
        format_ = make(EveryMark(tokenizer))
        few, many = (_prompt_length(format_, chars) for chars in (_PROBE_CHARS // 2, _PROBE_CHARS))
        self._per_token = (_PROBE_CHARS - _PROBE_CHARS // 2) / (many - few)
        text = _text(_PROBE_CHARS)
        self._per_text_token = len(text) / len(tokenizer.encode(text))

    def chars(self, tokens: int) -> int:
        """Characters of tool output in a conversation of `tokens`."""
        return round(tokens * self._per_token)

    def chars_of_text(self, tokens: int) -> int:
        """Characters of one text of `tokens`."""
        return round(tokens * self._per_text_token)


def conversation(chars: int, new_chars: int) -> tuple[list[Json], Json]:
    """A tool loop that ends with a call, and the call's output."""
    call: Json = {"type": "function_call", "call_id": "call_last", "name": "shell", "arguments": '{"command":"make"}'}
    new: Json = {"type": "function_call_output", "call_id": "call_last", "output": _text(new_chars)}
    return [*history(chars), call], new


def weigh(make: MakeFormat, tokenizer: Tokenizer, tokens: int, scale: Scale) -> tuple[float, float]:
    """Bytes per token of a chain's rendered state, built turn by turn as a tool loop builds it, and of its items."""
    format_ = make(EveryMark(tokenizer))
    raw = encoded(post(_NAME, history(scale.chars(tokens))))
    gc.collect()
    tracemalloc.start()
    try:
        items = decode_input(decode_create(raw).input)
        gc.collect()
        item_bytes = tracemalloc.get_traced_memory()[0]
        view, state = _grown(format_, items)
        gc.collect()
        state_bytes = tracemalloc.get_traced_memory()[0] - item_bytes
    finally:
        tracemalloc.stop()
    del state  # alive until it was weighed
    return state_bytes / len(view), item_bytes / len(view)


def _grown(format_: Format, items: list[Item]) -> tuple[TokenView, RenderState]:
    """A chain of turns: an item of the user or a tool, then one that the model sampled."""
    context = PromptContext()
    start = format_.begin(context)
    view, state = TokenView.of(start.tokens), start.state
    for index in range(0, len(items), 2):
        added = _extension(format_.extend(state, len(view), [items[index]]))
        view, state = view.head(added.keep).append(added.tokens), added.state
        output = items[index + 1 : index + 2]
        if output:
            sampled = format_.encode_items(context, output)
            said = format_.commit(state, len(view), sampled, output)
            view, state = view.head(said.keep).append(said.tokens), said.state
    return view, state


def cpu_of(call: Callable[[], object], times: int) -> float:
    """Seconds of this process's CPU for one call, threads included."""
    before = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - before) / times


def ratio_in_turns(
    above: Callable[[], object], below: Callable[[], object], pairs: int, *, below_times: int = 1
) -> float:
    """CPU of one call of `above` over that of `below`, called in turns, so that what slows the machine slows both.

    The first call behind another arm finds the processor's caches full of that arm's work. So one turn of each is not
    counted, and each goes first in every other pair.

    Args:
        below_times: calls of `below` in its turn, where it is much the shorter one.
    """
    turns = (partial(cpu_of, above, 1), partial(cpu_of, below, below_times))
    spent = [0.0, 0.0]
    for turn in turns:
        turn()
    for pair in range(pairs):
        for place in (0, 1) if pair % 2 else (1, 0):
            spent[place] += turns[place]()
    return spent[0] / spent[1]


def _prompt_length(format_: Format, chars: int) -> int:
    sent, _ = conversation(chars, 0)
    items = decode_input(decode_create(encoded(post(_NAME, sent))).input)
    start = format_.begin(PromptContext())
    return len(_extension(format_.extend(start.state, len(start.tokens), items)).tokens)


def _text(chars: int) -> str:
    return "".join(item["output"] for item in history(chars) if item["type"] == "function_call_output")


def _extension(found: Extension | Fallback) -> Extension:
    if isinstance(found, Fallback):
        raise BenchError(f"the format cannot render the conversation ({found.reason})")
    return found


def _at_once(coroutine: Coroutine[object, None, _T]) -> _T:
    """The result of a coroutine that has nothing to wait for; that it lets others run in between is no waiting."""
    try:
        while coroutine.send(None) is None:
            pass
    except StopIteration as stop:
        found: _T = stop.value
        return found
    raise BenchError("the turn waited for something")
