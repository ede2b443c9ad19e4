"""A history that is sent again: what of it is known, what is named when it is not."""

import gc
import json
import threading
from typing import Any

import msgspec
import pytest
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import call, say, think
from tests.support.turns import Pipeline, RecordingSink, body, written

from hotloop.protocol.items import Item
from hotloop.protocol.request import decode_item
from hotloop.seams.format import Extension
from hotloop.seams.prompt import PromptContext
from hotloop.session import canonical, packed_items
from hotloop.session.input_survey import survey_input
from hotloop.session.model_context import ContextCache, ContextKey
from hotloop.session.principal import Principal, Tenant
from hotloop.turns import commit, history, terms
from hotloop.turns.record import TurnRecord
from hotloop.turns.services import ModelContext

Json = dict[str, Any]
USER: Json = {"type": "message", "role": "user", "content": "hi"}
MORE: Json = {"type": "message", "role": "user", "content": "more"}


def resent(response: Json) -> list[Json]:
    """Output as Codex sends it back."""
    return [{key: value for key, value in item.items() if key != "status"} for item in response["output"]]


async def ask(pipeline: Pipeline, items: list[Json], *, connection: int | None = None, **fields: Any) -> list[Json]:
    """Send a whole history; returns it with the answer behind it."""
    everything: Json = {"store": False, **fields}
    outcome = await pipeline.run(input=items, connection=connection, **everything)
    assert outcome.error is None, outcome.error
    return [*items, *resent(body(outcome))]


def never(*given: object) -> None:
    pytest.fail("decoded for a digest")


def record_of(pipeline: Pipeline) -> TurnRecord:
    return pipeline.records.latest()[-1]


@pytest.mark.parametrize("connection", [None, 1])
@pytest.mark.parametrize("store", [False, True])
async def test_a_resent_history_costs_only_what_is_new_in_it(connection: int | None, store: bool) -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER], connection=connection, store=store)
    pipeline.format.extended_items = 0
    await ask(pipeline, [*known, MORE], connection=connection, store=store)
    assert pipeline.format.extended_items == 1
    assert pipeline.prompt == "<sys><end><user>hi<end><reply><text>ok<end><user>more<end><reply>"
    assert written(pipeline.engine.runs[-1].new) == "<end><user>more<end><reply>"  # the rest is in the KV
    assert len(pipeline.engine.handles) == 1
    record = record_of(pipeline)
    assert (record.recognised_items, record.new_items, record.fallbacks) == (2, 1, ())
    assert record.recognised_tokens == 11  # <sys><end><user>hi<end><reply><text>ok<end>


async def test_a_history_that_a_lost_connection_built_is_known_on_the_next_one() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER], connection=1)
    pipeline.chains.drop_connection(1)
    await ask(pipeline, [*known, MORE], connection=2)
    assert (record_of(pipeline).recognised_items, record_of(pipeline).fallbacks) == (2, ())
    assert len(pipeline.engine.handles) == 1


async def test_a_chain_built_with_previous_response_id_is_known_when_it_is_resent() -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input=[USER], store=False))
    second = body(await pipeline.run(input=[MORE], store=False, previous_response_id=first["id"]))
    whole = [USER, *resent(first), MORE, *resent(second)]
    await ask(pipeline, [*whole, USER], connection=2)
    assert record_of(pipeline).recognised_items == 4


async def test_a_parent_is_continued_with_its_kv_also_where_the_same_was_asked_before() -> None:
    pipeline = Pipeline()
    for connection in (1, 2):
        first = body(await pipeline.run(connection=connection, input=[USER], store=False))
        await pipeline.run(connection=connection, input=[MORE], store=False, previous_response_id=first["id"])
        assert record_of(pipeline).fallbacks == ()
        assert written(pipeline.engine.runs[-1].new) == "<end><user>more<end><reply>"


async def test_an_unchanged_item_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    known = await ask(pipeline, [*known, MORE])
    parsed: list[bytes] = []

    def decode(raw: msgspec.Raw | bytes, param: str) -> Item:
        parsed.append(bytes(raw))
        return decode_item(raw, param)

    monkeypatch.setattr(history, "decode_item", decode)
    await ask(pipeline, [*known, MORE])
    # the last answer comes for the first time in this shape; all else is known by its bytes
    assert [json.loads(raw)["type"] for raw in parsed] == ["message", "message"]
    assert [json.loads(raw)["role"] for raw in parsed] == ["assistant", "user"]


async def test_the_same_question_again_continues_behind_the_input() -> None:
    pipeline = Pipeline()
    await ask(pipeline, [USER])
    await ask(pipeline, [USER])
    assert pipeline.prompt == "<sys><end><user>hi<end><reply>"
    record = record_of(pipeline)
    assert (record.recognised_items, record.new_items, record.fallbacks) == (1, 0, ("kv_not_held",))


@pytest.mark.parametrize(("text", "recognised"), [("more", 2), ("more" * 100, 3)])
async def test_behind_a_known_history_only_a_long_question_is_known_when_it_comes_again(
    monkeypatch: pytest.MonkeyPatch, text: str, recognised: int
) -> None:
    monkeypatch.setattr(commit, "LONG_INPUT_BYTES", 400)
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    asked = [*known, {**MORE, "content": text}]
    await ask(pipeline, asked)
    first = pipeline.prompt
    await ask(pipeline, asked)
    assert pipeline.prompt == first
    assert (record_of(pipeline).recognised_items, record_of(pipeline).fallbacks) == (recognised, ("kv_not_held",))


async def test_a_change_in_the_middle_leaves_the_beginning_known() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    known = await ask(pipeline, [*known, MORE])
    changed = [*known[:2], {**MORE, "content": "less"}, *known[3:], USER]
    await ask(pipeline, changed)
    record = record_of(pipeline)
    assert (record.recognised_items, record.new_items) == (2, 3)
    assert record.fallbacks == ("history_changed", "kv_not_held")
    assert "<user>less<end><reply><text>ok<end><user>hi<end>" in pipeline.prompt


async def test_one_more_item_in_the_middle_leaves_the_beginning_known() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    await ask(pipeline, [*known, MORE])
    await ask(pipeline, [*known, USER, MORE])
    assert (record_of(pipeline).recognised_items, record_of(pipeline).new_items) == (2, 2)


async def test_dropped_reasoning_is_a_mismatch_and_has_a_name() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: think("hm", say("ok"))))
    known = await ask(pipeline, [USER])
    without = [item for item in known if item["type"] != "reasoning"]
    assert len(without) == 2
    await ask(pipeline, [*without, MORE])
    record = record_of(pipeline)
    assert (record.recognised_items, record.fallbacks) == (1, ("history_changed", "kv_not_held"))
    assert "hm" not in pipeline.prompt


async def test_a_history_nobody_remembers_has_a_name_and_a_first_question_has_none() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    assert record_of(pipeline).fallbacks == ()
    pipeline.services.prefixes.clear()
    await ask(pipeline, [*known, MORE])
    assert record_of(pipeline).fallbacks == ("history_unknown",)
    assert pipeline.records.counters.fallbacks == {"history_unknown": 1}


async def test_other_instructions_are_another_history_with_a_name_of_its_own() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    known = await ask(pipeline, [*known, MORE], instructions="Be brief.")
    assert record_of(pipeline).fallbacks == ("context_changed",)
    await ask(pipeline, [*known, MORE], instructions="Be brief.")
    assert record_of(pipeline).fallbacks == ()


async def test_a_parent_in_another_context_is_found_if_it_was_rendered_there_before() -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input=[USER], store=False))
    other: Json = {"instructions": "Be brief.", "store": False, "previous_response_id": first["id"]}
    await pipeline.run(input=[MORE], **other)
    assert record_of(pipeline).fallbacks == ("context_changed",)
    await pipeline.run(input=[MORE], **other)
    assert record_of(pipeline).fallbacks == ("kv_not_held",)
    assert pipeline.prompt == "<sys>Be brief.<end><user>hi<end><reply><text>ok<end><user>more<end><reply>"


async def test_a_parent_out_of_the_store_is_found_by_what_it_says() -> None:
    pipeline = Pipeline()
    first = body(await pipeline.run(input=[USER]))
    pipeline.chains.evict(Principal(), None, first["id"])
    await pipeline.run(input=[MORE], previous_response_id=first["id"])
    assert record_of(pipeline).fallbacks == ()
    assert written(pipeline.engine.runs[-1].new) == "<end><user>more<end><reply>"


async def test_a_foreign_tenants_history_is_not_known() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    turn = pipeline.turn(connection=None, input=[*known, MORE], store=False)
    turn.principal = Principal(Tenant("other"))
    await pipeline.runner.run(turn, RecordingSink())
    assert (record_of(pipeline).recognised_items, record_of(pipeline).fallbacks) == (0, ("history_unknown",))
    assert len(pipeline.engine.handles) == 2


async def test_calls_of_the_known_part_are_paired_with_the_outputs_that_are_new() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: call("look", '{"a": 1}')))
    known = await ask(pipeline, [USER])
    call_id = known[-1]["call_id"]
    known[-1]["arguments"] = '{"a":1}'  # some clients parse the arguments and write them again
    refused = await pipeline.run(input=[*known, MORE], store=False, connection=None)
    assert refused.error is not None
    assert refused.error.message == f"No tool output found for function call {call_id}."
    await ask(pipeline, [*known, {"type": "function_call_output", "call_id": call_id, "output": "found"}])
    assert record_of(pipeline).recognised_items == 2
    assert '<args>{"a": 1}<end><result>found' in pipeline.prompt  # as the model wrote them


async def test_an_invalid_item_is_named_by_its_place_in_the_request_and_a_refusal_keeps_no_share() -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    for bad, param in (({"type": "message"}, "input[2].role"), ({"type": "item_reference", "id": "x"}, "input[2].id")):
        refused = await pipeline.run(input=[*known, bad], store=False, connection=None)
        assert refused.error is not None
        assert refused.error.param == param
    pipeline.services.prefixes.clear()
    assert pipeline.engine.open_handles == 0


async def test_the_log_line_and_the_timing_event_show_what_was_recognised(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = Pipeline()
    known = await ask(pipeline, [USER])
    sink = RecordingSink()
    with caplog.at_level("INFO", logger="hotloop.turn"):
        await pipeline.runner.run(
            pipeline.turn(connection=None, wants_timing=True, input=[*known, MORE], store=False), sink
        )
    tokens = record_of(pipeline).recognised_tokens
    timing = next(event for event in sink.events if event["type"] == "hotloop:timing")
    assert (timing["recognised_items"], timing["recognised_tokens"]) == (2, tokens)
    assert f" recognised_tokens={tokens}" in caplog.text
    assert (pipeline.records.counters.recognitions, pipeline.records.counters.recognised_tokens) == (1, tokens)


async def test_no_token_is_kept_once_everything_is_forgotten() -> None:
    pipeline = Pipeline(ToyEngine(lambda prompt: think("hm", say("ok"))), rewrites="rewind")
    known = await ask(pipeline, [USER], connection=1)
    known = await ask(pipeline, [*known, MORE], connection=1)
    await ask(pipeline, [*known[:2], USER], connection=1)
    assert pipeline.model.kept_bytes > 0
    pipeline.chains.drop_connection(1)
    pipeline.services.prefixes.clear()
    pipeline.engine.runs.clear()
    pipeline.engine.handles.clear()
    gc.collect()  # the toy engine's runs and handles know each other
    assert pipeline.model.kept_bytes == 0


@pytest.mark.parametrize("stores", [False, True])
async def test_what_is_long_to_decode_is_not_decoded_by_the_turn(stores: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The survey of the decode process has read it; the turn splits, digests and parses nothing of it again."""
    bulk: list[Json] = [{}] * packed_items.LONG_BYTES
    items: list[Json] = [
        {"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": bulk}]},
        {"type": "web_search_call", "id": "ws_1", "action": bulk},
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "odd", "data": bulk}]},
        USER,
    ]
    pipeline = Pipeline(ToyEngine(context_tokens=1_000_000))
    turn = pipeline.turn(input=items, store=stores)
    turn.survey = survey_input(turn.request.input)
    decoded: list[int] = []

    def noted(raw: msgspec.Raw, param: str) -> Item:
        decoded.append(memoryview(raw).nbytes)
        return decode_item(raw, param)

    monkeypatch.setattr(history, "decode_item", noted)
    for name in ("_json_decode", "_object_decode"):
        monkeypatch.setattr(canonical, name, never)
    outcome = await pipeline.run_turn(turn)
    assert body(outcome)["status"] == "completed"
    assert decoded and max(decoded) < packed_items.LONG_BYTES


async def test_long_instructions_and_tools_are_worked_on_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline(ToyEngine(context_tokens=1_000_000))
    where: dict[str, bool] = {}
    make, begin = terms._make_context, pipeline.format.begin

    def making(key: ContextKey, contexts: ContextCache) -> ModelContext:
        where["make"] = threading.current_thread() is threading.main_thread()
        return make(key, contexts)

    def beginning(context: PromptContext) -> Extension:
        where["begin"] = threading.current_thread() is threading.main_thread()
        return begin(context)

    monkeypatch.setattr(terms, "_make_context", making)
    monkeypatch.setattr(pipeline.format, "begin", beginning)
    for instructions, is_on_loop in (("short", True), ("long " * 100_000, False)):
        turn = pipeline.turn(input=[USER], instructions=instructions, store=False)
        turn.survey = survey_input(turn.request.input)
        assert body(await pipeline.run_turn(turn))["status"] == "completed"
        assert where == {"make": is_on_loop, "begin": is_on_loop}
