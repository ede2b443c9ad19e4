"""Which items count as the same, against a plain comparison of their JSON values."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.support.conversations import texts

from hotloop.protocol.items import Item
from hotloop.protocol.request import decode_item
from hotloop.protocol.response import ResponseStream
from hotloop.session.canonical import ENTRY_BYTES, ItemDigests, item_digest
from hotloop.session.principal import Tenant

Json = dict[str, Any]

TEXT = st.sampled_from(["", "a", "b", "é😀"])
NAME = st.sampled_from(["shell", "other"])
ARGUMENTS = st.sampled_from(
    ["{}", '{"a": 1, "b": [2, 3.0]}', '{"b":[2,3.0],"a":1}', '{"a":1,"b":[2,3]}', '{"a":"1"}', "{", "a", '"a"', ""]
)
PART = st.one_of(
    TEXT.map(lambda text: {"type": "input_text", "text": text}),
    TEXT.map(lambda text: {"type": "output_text", "text": text}),
    TEXT.map(lambda text: {"type": "output_text", "text": text, "annotations": [], "logprobs": [{"token": "x"}]}),
    TEXT.map(lambda text: {"type": "refusal", "refusal": text}),
)
CONTENT = TEXT | st.lists(PART, max_size=2)
REASON = TEXT.map(lambda text: [{"type": "reasoning_text", "text": text}])
ITEM: st.SearchStrategy[Json] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("message"), "role": st.sampled_from(["user", "assistant"]), "content": CONTENT}
    ),
    st.fixed_dictionaries({"type": st.just("function_call"), "call_id": TEXT, "name": NAME, "arguments": ARGUMENTS}),
    st.fixed_dictionaries({"type": st.just("custom_tool_call"), "call_id": TEXT, "name": NAME, "input": ARGUMENTS}),
    st.fixed_dictionaries({"type": st.just("function_call_output"), "call_id": TEXT, "output": TEXT}),
    st.fixed_dictionaries({"type": st.just("custom_tool_call_output"), "call_id": TEXT, "output": TEXT}),
    st.fixed_dictionaries(
        {"type": st.just("reasoning"), "summary": st.just([])}, optional={"content": REASON, "encrypted_content": TEXT}
    ),
    st.fixed_dictionaries(
        {"type": st.just("web_search_call"), "action": st.dictionaries(TEXT, TEXT | st.floats(0, 2))}
    ),
)
OPTIONAL = {"message": "phase", "function_call": "namespace", "custom_tool_call": "namespace", "reasoning": "content"}


@st.composite
def resent(draw: st.DrawFn, item: Json) -> bytes:
    """The same item as some client writes it: other ids, no status, nulls for what is absent, keys in another order."""
    fields = dict(item)
    for name in ("id", "status"):
        value = draw(st.sampled_from([None, "completed", "", "absent"]))
        if value != "absent" and not (name == "status" and value == ""):
            fields[name] = value
    if draw(st.booleans()) and item["type"] in OPTIONAL:
        fields.setdefault(OPTIONAL[item["type"]], None)
    if item["type"] == "message" and draw(st.booleans()):
        del fields["type"]
    keys = draw(st.permutations(sorted(fields)))
    shuffled = {key: fields[key] for key in keys}
    return json.dumps(shuffled, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))).encode()


def plain(item: Json) -> Any:
    """What counts, written down the plain way."""
    fields = {key: value for key, value in item.items() if value is not None}
    if item["type"] == "function_call":
        with suppress(ValueError):
            fields["arguments"] = ["json", json.loads(item["arguments"], parse_float=lambda text: ["float", text])]
    if item["type"] == "reasoning" and item.get("content"):
        fields.pop("encrypted_content", None)  # it seals what the content says
    if isinstance(item.get("content"), list):
        parts = [{key: value for key, value in part.items() if key != "logprobs"} for part in item["content"]]
        fields["content"] = [
            {key: value for key, value in part.items() if (key, value) != ("annotations", [])} for part in parts
        ]
    return json.dumps(fields, sort_keys=True)


def digest_of(raw: bytes) -> bytes:
    return item_digest(decode_item(raw, "input[0]"))


@given(st.lists(ITEM, min_size=2, max_size=6), st.data())
def test_items_have_one_digest_exactly_if_they_say_the_same(items: list[Json], data: st.DataObject) -> None:
    digests = [digest_of(data.draw(resent(item))) for item in items]
    for one, first in zip(items, digests, strict=True):
        for other, second in zip(items, digests, strict=True):
            assert (first == second) == (plain(one) == plain(other)), (one, other)


@given(st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call"]), texts, st.booleans())
def test_what_was_sent_as_done_is_recognised_when_it_comes_back(kind: Any, text: str, complete: bool) -> None:
    stream = ResponseStream(response_id="resp_1", created_at=0, echo=b'"a":1', new_id=lambda prefix: f"{prefix}_1")
    stream.begin()
    stream.open_item(kind, "shell")
    if text:
        stream.delta(text)
    done = json.loads(stream.close_item(complete=complete)[-1])["item"]
    assert digest_of(json.dumps(done).encode()) == item_digest(stream.output[0])
    del done["status"]  # Codex
    assert digest_of(json.dumps(done).encode()) == item_digest(stream.output[0])


@given(st.lists(ITEM, max_size=20), st.integers(0, 3000))
def test_a_raw_item_that_comes_again_is_known_by_its_bytes(items: list[Json], room: int) -> None:
    digests = ItemDigests(max_bytes=room)
    mine, yours = Tenant("mine"), Tenant("yours")
    for item in items:
        raw = json.dumps(item).encode()
        known, expected = digests.find(mine, raw), digest_of(raw)
        assert known in (None, expected)
        if known is None:
            digests.put(mine, raw, expected)
        assert digests.find(mine, raw) == expected
        assert digests.find(yours, raw) is None
        assert digests.size_bytes == sum(len(text) + ENTRY_BYTES for _, text in digests._digests)
        assert digests.size_bytes <= room or len(digests) == 1


def test_text_that_no_decoder_takes_counts_as_text() -> None:
    deep = "[" * 100_000
    one: Item = decode_item(
        json.dumps({"type": "function_call", "call_id": "c", "name": "n", "arguments": deep}).encode(), ""
    )
    assert item_digest(one) == item_digest(one)
