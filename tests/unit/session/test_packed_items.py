"""Items that were read elsewhere are the items that are read here, and nothing of their text is decoded again."""

import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from hotloop.protocol import hosted_items, item_view, json_value, request, typed_calls
from hotloop.protocol.hosted_items import as_answered, listed_tools, read_call, read_request, read_response
from hotloop.protocol.item_view import id_of, shown, with_ids
from hotloop.protocol.items import (
    HostedItem,
    Item,
    Message,
    OpaqueItem,
    SealedItem,
    SettingItem,
    UnpairedOutput,
    opaque_text,
    text_of,
)
from hotloop.protocol.request import decode_item
from hotloop.protocol.typed_calls import tools_in
from hotloop.session import canonical, chain_settings
from hotloop.session.canonical import canonical_size, item_digest
from hotloop.session.chain import named_outputs
from hotloop.session.chain_settings import NO_SETTINGS, changes_settings
from hotloop.session.input_survey import survey_input
from hotloop.session.packed_items import LONG_BYTES, pack_long, unpacked

BULK: list[Any] = [{}] * LONG_BYTES
TOOL = {"type": "function", "name": "t", "parameters": {"type": "object", "x": BULK}}
SCHEMA = {"type": "object", "default": BULK}

LONG: list[dict[str, Any]] = [
    {"role": "assistant", "content": [{"type": "output_text", "text": "x", "annotations": BULK}]},
    {"role": "assistant", "content": [{"type": "output_text", "text": "x", "logprobs": BULK}]},
    {"role": "user", "content": [{"type": "input_audio", "input_audio": BULK}]},
    {"role": "user", "content": [{"type": "odd", "data": BULK}]},
    {"role": "user", "content": "x", "nobody": BULK},
    {"type": "function_call_output", "call_id": "c", "output": [{"type": "odd", "data": BULK}]},
    {"type": "function_call_output", "output": [{"type": "odd", "data": BULK}]},
    {"type": "function_call_output", "output": BULK},  # wrong, which is said where its call is known
    {"type": "web_search_call", "id": "ws", "action": BULK},
    {"type": "web_search_call", "action": BULK},
    {"type": "local_shell_call", "call_id": "c", "action": {"command": ["ls"], "env": {"A": BULK}}},
    {"type": "shell_call", "call_id": "c", "action": {"commands": ["ls"], "odd": BULK}},
    {"type": "shell_call_output", "call_id": "c", "output": [{"stdout": "x", "odd": BULK}]},
    {"type": "shell_call_output", "call_id": "c", "output": BULK},
    {"type": "apply_patch_call", "call_id": "c", "operation": {"type": "delete_file", "odd": BULK}},
    {"type": "tool_search_call", "call_id": "c", "arguments": {"query": BULK}},
    {"type": "tool_search_call", "arguments": {"query": BULK}},
    {"type": "tool_search_output", "call_id": "c", "tools": [TOOL]},
    {"type": "tool_search_output", "tools": [TOOL]},
    {"type": "additional_tools", "role": "developer", "tools": [TOOL, {"type": "mcp", "authorization": "secret"}]},
    {"type": "configuration_update", "reasoning": {"effort": "low"}, "odd": BULK},
    {"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "t", "input_schema": SCHEMA}]},
    {"type": "mcp_list_tools", "server_label": "s", "tools": [{"name": "t", "input_schema": BULK}]},
    {"type": "mcp_list_tools", "server_label": "s", "tools": [], "error": BULK},
    {
        "type": "mcp_call",
        "id": "m",
        "server_label": "s",
        "name": "t",
        "arguments": "{}",
        "error": {"type": "mcp_tool_execution_error", "content": [{"text": "no"}, BULK]},
    },
    {"type": "mcp_call", "id": "m", "server_label": "s", "name": "t", "arguments": "{}", "output": "yes", "odd": BULK},
    {"type": "mcp_approval_request", "id": "a", "server_label": "s", "name": "t", "arguments": "{}", "odd": BULK},
    {"type": "mcp_approval_response", "approval_request_id": "a", "approve": False, "odd": BULK},
    {"type": "compaction", "encrypted_content": "x", "odd": BULK},
    {"type": "compaction_trigger", "odd": BULK},
]


def text_of_item(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


def name_of(fields: dict[str, Any]) -> str:
    return f"{fields.get('type', 'message')} {' '.join(fields)}"


class _DecodesNothingLong:
    def __init__(self, decoder: "msgspec.json.Decoder[Any]") -> None:
        self._decoder = decoder

    @staticmethod
    def of(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def short(raw: Any) -> Any:
            assert len(raw) < LONG_BYTES, "long JSON was decoded"
            return decode(raw)

        return short

    def decode(self, raw: bytes) -> Any:
        assert len(raw) < LONG_BYTES, "long JSON was decoded"
        return self._decoder.decode(raw)


def _is_decoder(value: object) -> bool:
    return isinstance(value, msgspec.json.Decoder)


def _never(*given: object) -> None:
    pytest.fail("JSON was read for a model")


@contextmanager
def nothing_long_is_decoded() -> Generator[None]:
    """The decoders of items' JSON get no long one, and nothing is read for a model."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (hosted_items, item_view, typed_calls, chain_settings, canonical, request):
            for name, value in list(vars(module).items()):
                if _is_decoder(value):
                    patch.setattr(module, name, _DecodesNothingLong(value))
        for name in ("_json_decode", "_object_decode"):
            patch.setattr(canonical, name, _DecodesNothingLong.of(getattr(canonical, name)))
        patch.setattr(json_value, "readable", _never)
        yield


def told(item: Item) -> dict[str, Any]:
    """All that a turn asks of an item."""
    asked: dict[str, Callable[[Any], Any]] = {
        "id": id_of if isinstance(item, OpaqueItem) else lambda one: one.id,
        "tools": tools_in,
        "list": listed_tools,
        "changes": changes_settings,
        "request": read_request,
        "response": read_response,
        "answer": as_answered if isinstance(item, HostedItem) else lambda one: None,
        "text": opaque_text
        if isinstance(item, OpaqueItem) and not isinstance(item, SettingItem | SealedItem)
        else lambda one: text_of(one.content) if isinstance(one, Message) else None,
    }
    found = {name: ask(item) for name, ask in asked.items() if not (name == "id" and not hasattr(item, "id"))}
    call = read_call(item)
    found["call"] = None if call is None else msgspec.structs.replace(call, error=None)
    return found


def settings(item: Item) -> object:
    try:
        return NO_SETTINGS.behind([item])
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("fields", LONG, ids=name_of)
def test_a_long_item_that_was_read_elsewhere_says_the_same_without_being_decoded(fields: dict[str, Any]) -> None:
    raw = text_of_item(fields)
    here = decode_item(raw, "input[0]")
    packed = pack_long(decode_item(raw, "input[0]"), raw)
    assert packed is not None
    expected = told(here), settings(here), item_digest(here)
    with nothing_long_is_decoded():
        read = unpacked(packed, raw)
        found = told(read), settings(read), item_digest(read)
        assert canonical_size(read)
    assert found == expected
    assert shown(read) == shown(here)
    identified = with_ids([here], lambda prefix: f"{prefix}_1"), with_ids([read], lambda prefix: f"{prefix}_1")
    assert [id_of(one) for one in identified[0]] == [id_of(one) for one in identified[1]]


@pytest.mark.parametrize("fields", LONG, ids=name_of)
def test_a_short_item_is_read_where_it_is_needed(fields: dict[str, Any]) -> None:
    raw = text_of_item(fields).replace(json.dumps(BULK).encode(), b"[{}]")
    assert pack_long(decode_item(raw, "input[0]"), raw) is None


def test_an_update_that_is_wrong_is_refused_as_if_it_were_short() -> None:
    fields = {"type": "configuration_update", "reasoning": 7}
    raw = text_of_item({**fields, "odd": BULK})
    packed = pack_long(decode_item(raw, "input[0]"), raw)
    assert packed is not None
    assert settings(unpacked(packed, raw)) == settings(decode_item(text_of_item(fields), "input[0]"))


def test_a_long_text_is_no_work_to_read() -> None:
    raw = text_of_item({"role": "user", "content": "words " * LONG_BYTES})
    assert pack_long(decode_item(raw, "input[0]"), raw) is None


def test_an_output_that_names_no_call_gets_the_one_that_is_open() -> None:
    raw = text_of_item({"type": "function_call_output", "output": [{"type": "odd", "data": BULK}]})
    here = decode_item(raw, "input[0]")
    packed = pack_long(here, raw)
    assert packed is not None and isinstance(here, UnpairedOutput)
    assert named_outputs({"c": True}, [unpacked(packed, raw)]) == named_outputs({"c": True}, [here])


def test_a_survey_hands_on_its_long_items_only() -> None:
    short, long = text_of_item({"role": "user", "content": "x"}), text_of_item(LONG[0])
    survey = survey_input(msgspec.Raw(b"[%b,%b]" % (short, long)))
    assert list(survey.packed) == [1]
    first, second = survey.items()
    assert survey.read_item(0, first) is None
    read = survey.read_item(1, second)
    assert read is not None and item_digest(read) == survey.digest(1)


def test_pieces_of_an_output_beyond_any_sensible_number_are_one_text() -> None:
    pieces = [{"stdout": "a"}, {"stdout": "b"}] * 10_000
    item = decode_item(text_of_item({"type": "shell_call_output", "call_id": "c", "output": pieces}), "input[0]")
    few = decode_item(text_of_item({"type": "shell_call_output", "call_id": "c", "output": pieces[:2]}), "input[0]")
    assert text_of(item.output) == "ab" * 10_000 and len(item.output) == 1  # type: ignore[union-attr]
    assert len(few.output) == 2  # type: ignore[union-attr]
