"""Compaction: the model's own summary takes the place of what it sums up (docs/protocol.md §7).

    history, new items, "summarize" ─▶ model ─▶ summary        nothing is changed so far: what fails loses nothing
    settings, newest user messages, open calls, compaction item        the new chain; the turn goes on from it

The summary is sampled on the chain as it stands, so that its prompt is cached; the new chain is committed with the turn.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from hotloop.errors import CompactionFailed
from hotloop.protocol.file_parts import text_with_files
from hotloop.protocol.items import (
    Compaction,
    CompactionTrigger,
    CustomToolCall,
    FunctionCall,
    Item,
    Message,
    SettingItem,
    TypedCallOutput,
)
from hotloop.protocol.request import decode_item
from hotloop.protocol.typed_calls import SUMMARY_PROMPT, tools_in
from hotloop.seams.engine import EndReason, Usage
from hotloop.seams.format import ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.model import ModelEnd, PreparedTurn
from hotloop.seams.prompt import CallRules
from hotloop.session.principal import Tenant
from hotloop.turns.admission import AdmittedTurn
from hotloop.turns.history import replaced_history

KEPT_CHARS = 80_000  # of user messages that stay as they are: some 20,000 tokens
MAX_SUMMARY_TOKENS = 8192
_ASK = CompactionTrigger(role="user", content=SUMMARY_PROMPT, raw=b'{"type":"compaction_trigger"}')


@dataclass(frozen=True, slots=True)
class Summary:
    """What the model wrote, and what it cost."""

    text: str
    usage: Usage


def is_asked_for(admitted: AdmittedTurn) -> bool:
    """The request, or its last item, asks for a compaction instead of an answer."""
    return (admitted.asks_compaction or _has_trigger(admitted.new_items)) and not admitted.terms.is_warm_up


def _has_trigger(new_items: Sequence[Item]) -> bool:
    return bool(new_items) and isinstance(new_items[-1], CompactionTrigger)


async def summarize(admitted: AdmittedTurn, tenant: Tenant, watch: Callable[[PreparedTurn], None]) -> Summary:
    """A summary of everything up to and with the new items. `watch` gets what can be aborted meanwhile.

    Raises CompactionFailed if there is none, and what `Model.prepare` raises.
    """
    asked = admitted.model_request(tenant)
    wanted = admitted.model.context_tokens // 8
    request = msgspec.structs.replace(
        asked,
        rules=CallRules("none"),
        wishes=msgspec.structs.replace(
            asked.wishes, max_output_tokens=min(wanted, MAX_SUMMARY_TOKENS), top_logprobs=None
        ),
        new_items=asked.new_items if _has_trigger(asked.new_items) else [*asked.new_items, _ASK],
        generate=True,
    )
    prepared = await admitted.model.prepare(request)
    watch(prepared)
    heard = _Heard()
    try:
        prepared.start(heard.on_events, heard.on_end)
        end = await heard.end
    finally:
        prepared.discard()
    if end.error is not None:
        raise end.error
    if end.reason is not EndReason.STOP or not heard.text.strip():
        raise CompactionFailed("The model wrote no whole summary; the conversation is as it was.")
    return Summary(heard.text.strip(), end.usage)


class _Heard:
    """The text of the model's answer, without its reasoning."""

    def __init__(self) -> None:
        self.end: asyncio.Future[ModelEnd] = asyncio.get_running_loop().create_future()
        self._pieces: list[str] = []
        self._is_text = False

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def on_events(self, events: Sequence[ParsedEvent]) -> None:
        for event in events:
            match event:
                case ItemOpened():
                    self._is_text = event.kind == "message"
                case ItemDelta() if self._is_text:
                    self._pieces.append(event.text)
                case _:
                    pass

    def on_end(self, end: ModelEnd) -> None:
        if not self.end.done():
            self.end.set_result(end)


def kept_items(admitted: AdmittedTurn, max_chars: int) -> list[Item]:
    """What stays as it is: the chain's settings, the newest user messages as far as they fit, the newest always, and the
    calls that may still be answered."""
    settings: list[Item] = []
    messages: list[Item] = []
    calls: list[Item] = []
    unanswered = set(admitted.open_calls)
    chars = 0
    for item in admitted.history.items.extended(admitted.new_items).newest_first():
        match item:
            case SettingItem():
                settings.append(item)
            case TypedCallOutput():
                settings += _as_setting(item)
            case CompactionTrigger() | Compaction():
                pass
            case Message(role="user"):
                chars += len(text_with_files(item.content))
                if chars <= max_chars or not messages:
                    messages.append(item)
            case FunctionCall() | CustomToolCall() if item.call_id in unanswered:
                unanswered.remove(item.call_id)
                calls.append(item)
            case _:
                pass
    return [*reversed(settings), *reversed(messages), *reversed(calls)]


def _as_setting(output: TypedCallOutput) -> list[Item]:
    """The tools that a search has found stay with the chain."""
    tools = tools_in(output)
    if tools is None:
        return []
    raw = json.dumps({"type": "additional_tools", "role": "developer", "tools": json.loads(tools)}).encode()
    return [decode_item(raw, "input")]


def compacted(admitted: AdmittedTurn, tenant: Tenant, items: Sequence[Item]) -> AdmittedTurn:
    """The turn on the new chain of `items`. What the history of before has lent is still to be released."""
    return msgspec.structs.replace(
        admitted,
        history=replaced_history(tenant, items),
        prefills_only=is_asked_for(admitted),
        is_compacted=True,
    )
