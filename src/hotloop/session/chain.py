"""What is remembered of a finished turn so that the next one can continue it."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from hotloop.errors import InvalidRequest, MissingParameter
from hotloop.protocol.hosted_items import read_request, read_response
from hotloop.protocol.items import (
    CallItem,
    CustomToolCall,
    CustomToolCallOutput,
    FunctionCall,
    FunctionCallOutput,
    HostedItem,
    Item,
    Message,
    UnpairedOutput,
)
from hotloop.protocol.request import with_call_id
from hotloop.session.chain_settings import NO_SETTINGS, ChainSettings
from hotloop.session.item_log import ItemLog

OpenCalls = Mapping[str, bool]  # call id → its output must come, of the calls that may still be answered


class ModelState(Protocol):
    """What a model keeps of a chain: rendered tokens, a share of a KV handle. Each holder has one of its own."""

    @property
    def size_bytes(self) -> int:
        """Bytes this turn added to what is kept."""
        ...

    @property
    def token_count(self) -> int:
        """Tokens of the chain up to here; 0 if the model does not render for itself."""
        ...

    def share(self) -> "ModelState":
        """The same for one more holder, who releases it on its own."""
        ...

    def release_kv(self) -> None:
        """Let go of the KV and keep the rest: who continues from here has the engine find or compute it. Idempotent."""
        ...

    def release(self) -> None:
        """This holder needs it no more. Idempotent."""
        ...


class TurnState(msgspec.Struct, frozen=True):
    """A response that can be continued."""

    response_id: str
    model: str
    items: ItemLog  # all input and output up to and with this response
    open_calls: OpenCalls
    model_state: ModelState | None  # None after a reload from the store: the next turn renders in full
    size_bytes: int
    history: bytes = b""  # the chain in the prefix index (`session.prefix_index`); empty if it was not computed
    context: bytes = b""  # digest of the context that the model state was rendered in
    chain_bytes: int = 0  # of the whole chain up to here
    settings: ChainSettings = NO_SETTINGS


def pair_calls(open_calls: OpenCalls, new_items: Sequence[Item]) -> OpenCalls:
    """Match the outputs among `new_items` with the calls before them (docs/protocol.md §4.4).

    Returns the calls that may still be answered: those that were cut off while they were written, and asynchronous ones.
    Raises InvalidRequest, param `input`, for an output without its call and for a call left without output.
    """
    waiting = dict(open_calls)
    for item in new_items:
        if type(item) is Message:
            continue
        match item:
            case FunctionCall() | CustomToolCall():
                if item.call_id in waiting:
                    raise InvalidRequest(f"Two tool calls have the call_id '{item.call_id}'.", param="input")
                waiting[item.call_id] = _needs_output(item)
            case FunctionCallOutput() | CustomToolCallOutput():
                if waiting.pop(item.call_id, None) is None:
                    raise InvalidRequest(
                        f"No tool call found for function call output with call_id {item.call_id}.", param="input"
                    )
            case HostedItem():
                _pair_consent(waiting, item)
            case _:
                pass
    for call_id, needs_output in waiting.items():
        if needs_output:
            raise InvalidRequest(f"No tool output found for function call {call_id}.", param="input")
    return waiting


def named_outputs(open_calls: OpenCalls, new_items: Sequence[Item]) -> Sequence[Item]:
    """The items, with each output that names no call as one of the call that is open where it stands.

    Where none is open it is not known whose it is: the item stays as it is, and is shown to the model as that.
    Raises MissingParameter where several are.
    """
    if UnpairedOutput not in map(type, new_items):
        return new_items
    waiting = dict(open_calls)
    named: list[Item] = []
    for index, given in enumerate(new_items):
        item = given
        if isinstance(item, UnpairedOutput) and waiting:
            if len(waiting) > 1:
                raise MissingParameter(f"input[{index}].call_id")
            item = _named(item, next(iter(waiting)), f"input[{index}]")
        match item:
            case FunctionCall() | CustomToolCall():
                waiting[item.call_id] = True
            case FunctionCallOutput() | CustomToolCallOutput():
                waiting.pop(item.call_id, None)
            case _:
                pass
        named.append(item)
    return named


def _named(item: UnpairedOutput, call_id: str, param: str) -> Item:
    if item.facts is not None and item.facts.output is not None:
        return msgspec.structs.replace(item.facts.output, call_id=call_id)
    return with_call_id(item, call_id, param)


def _pair_consent(waiting: dict[str, bool], item: HostedItem) -> None:
    """A call that waits for consent may be answered, or left behind: the client then says something else."""
    request, response = read_request(item), read_response(item)
    if request is not None:
        waiting[request.id] = False
    elif response is not None and waiting.pop(response.approval_request_id, None) is None:
        raise InvalidRequest(f"No approval request found with id {response.approval_request_id}.", param="input")


def calls_in(output: Sequence[Item]) -> OpenCalls:
    """The calls that a response's output leaves open."""
    waiting: dict[str, bool] = {}
    for item in output:
        if isinstance(item, FunctionCall | CustomToolCall):
            waiting[item.call_id] = _needs_output(item)
        elif isinstance(item, HostedItem):
            request = read_request(item)
            if request is not None:
                waiting[request.id] = False
    return waiting


def open_calls_in(items: Iterable[Item]) -> OpenCalls:
    """The calls that a history of any origin leaves open; an output without its call is passed over."""
    waiting: dict[str, bool] = {}
    for item in items:
        match item:
            case FunctionCall() | CustomToolCall():
                waiting[item.call_id] = _needs_output(item)
            case FunctionCallOutput() | CustomToolCallOutput():
                waiting.pop(item.call_id, None)
            case HostedItem():
                with contextlib.suppress(InvalidRequest):
                    _pair_consent(waiting, item)
            case _:
                pass
    return waiting


def _needs_output(call: CallItem) -> bool:
    # Cut off while it was written: nobody could run it, some clients answer it anyway. Of an asynchronous tool: the client
    # answers when it has the answer, and goes on meanwhile (OpenAI's guide to async tool calling).
    return call.status != "incomplete" and not call.is_async
