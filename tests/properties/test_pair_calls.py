"""Pairing of calls and outputs against the rule spelled out one item at a time (docs/protocol.md §4.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.errors import InvalidRequest
from hotloop.protocol.items import CustomToolCall, CustomToolCallOutput, FunctionCall, FunctionCallOutput, Item, Message
from hotloop.session.chain import pair_calls

ID = st.sampled_from(["a", "b", "c"])
ITEM: st.SearchStrategy[Item] = st.one_of(
    ID.map(lambda call_id: FunctionCall(call_id=call_id, name="run", arguments="{}")),
    ID.map(lambda call_id: FunctionCall(call_id=call_id, name="run", arguments="{", status="incomplete")),
    ID.map(lambda call_id: FunctionCallOutput(call_id=call_id, output="")),
    ID.map(lambda call_id: CustomToolCall(call_id=call_id, name="patch", input="")),
    ID.map(lambda call_id: CustomToolCallOutput(call_id=call_id, output="")),
    st.just(Message(role="user", content="hi")),
)


def pairs(history: list[Item]) -> bool:
    """Every output has exactly one call before it, every finished call an output behind it."""
    for index, item in enumerate(history):
        before, behind = history[:index], history[index + 1 :]
        match item:
            case FunctionCall() | CustomToolCall():
                answers = [o for o in behind if isinstance(o, FunctionCallOutput | CustomToolCallOutput)]
                again = [
                    c for c in behind if isinstance(c, FunctionCall | CustomToolCall) and c.call_id == item.call_id
                ]
                first = next((o for o in answers if o.call_id == item.call_id), None)
                if again and (first is None or behind.index(again[0]) < _place(behind, first)):
                    return False  # the same id twice, the first still open
                if first is None and item.status != "incomplete":
                    return False
            case FunctionCallOutput() | CustomToolCallOutput():
                calls = sum(isinstance(c, FunctionCall | CustomToolCall) and c.call_id == item.call_id for c in before)
                outputs = sum(
                    isinstance(o, FunctionCallOutput | CustomToolCallOutput) and o.call_id == item.call_id
                    for o in before
                )
                if calls != outputs + 1:
                    return False
            case _:
                pass
    return True


def _place(items: list[Item], item: Item) -> int:
    return next(index for index, other in enumerate(items) if other is item)


@given(st.lists(ITEM, max_size=8), st.dictionaries(ID, st.booleans()))
def test_a_turn_is_taken_exactly_if_its_calls_and_outputs_pair(new: list[Item], open_calls: dict[str, bool]) -> None:
    earlier: list[Item] = [
        FunctionCall(call_id=call_id, name="run", arguments="", status="completed" if needed else "incomplete")
        for call_id, needed in open_calls.items()
    ]
    if pairs(earlier + new):
        pair_calls(open_calls, new)
    else:
        with pytest.raises(InvalidRequest):
            pair_calls(open_calls, new)
