"""What `truncation: auto` leaves out: the oldest items, calls with their outputs."""

from hypothesis import given
from hypothesis import strategies as st

from hotloop.protocol.hosted_items import call_item, request_item
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, HostedItem, Item, Message, SettingItem
from hotloop.session.chain import pair_calls
from hotloop.turns.truncation import without_oldest


def conversation(texts: list[str], calls: list[bool]) -> list[Item]:
    items: list[Item] = []
    for number, (text, has_call) in enumerate(zip(texts, calls, strict=False)):
        items.append(Message(role="user", content=text))
        if has_call:
            items.append(FunctionCall(call_id=str(number), name="run", arguments="{}"))
            items.append(FunctionCallOutput(call_id=str(number), output=text))
    return items


@given(st.lists(st.text(max_size=50), min_size=1), st.lists(st.booleans()), st.floats(0, 1))
def test_the_rest_is_a_conversation_that_ends_as_before(texts: list[str], calls: list[bool], share: float) -> None:
    items = conversation(texts, calls)
    kept = without_oldest(items, share)
    pair_calls({}, kept)  # raises for an output without its call
    assert len(kept) <= len(items)
    assert not items or (kept and kept == items[-len(kept) :]) or isinstance(items[-1], FunctionCallOutput)


def test_an_output_goes_with_its_call_and_settings_stay() -> None:
    bring = SettingItem("additional_tools", b"{}")
    call = FunctionCall(call_id="c", name="run", arguments='{"a":"' + "x" * 500 + '"}')
    output = FunctionCallOutput(call_id="c", output="y")
    last = Message(role="user", content="and now?")
    assert without_oldest([bring, call, output, last], 0.5) == [bring, last]
    assert without_oldest([last], 1.0) == [last]


def test_a_call_that_waited_for_consent_goes_with_its_request() -> None:
    bring = SettingItem("mcp_list_tools", b'{"server_label":"s","tools":[]}')
    request = request_item(item_id="mcpr_1", label="s", name="t", arguments='{"a":"' + "x" * 500 + '"}')
    consent = HostedItem("mcp_approval_response", b'{"approval_request_id":"mcpr_1","approve":true}')
    call = call_item(
        item_id="mcp_1",
        label="s",
        name="t",
        arguments="{}",
        status="completed",
        output="y",
        approval_request_id="mcpr_1",
    )
    alone = call_item(item_id="mcp_2", label="s", name="t", arguments="{}", status="completed", output="y")
    last = Message(role="user", content="and now?")
    assert without_oldest([bring, request, consent, call, alone, last], 0.3) == [bring, alone, last]
