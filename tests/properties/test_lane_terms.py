"""What a lane remembers of its terms changes nothing but the time: any sequence of creates gets the terms of its own."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.toy_format import CharTokenizer, ToyFormat
from tests.support.turns import Pipeline

from hotloop.errors import ApiError
from hotloop.models.token_model import TokenModel
from hotloop.protocol.request import ResponseCreate
from hotloop.session.chain_settings import NO_SETTINGS, ChainSettings
from hotloop.turns.services import TurnServices
from hotloop.turns.terms import LaneTerms, Terms, terms_of

SEARCH = {"type": "function", "name": "search", "parameters": {"type": "object"}}
SHELL = {"type": "function", "name": "shell", "parameters": {"type": "object"}, "strict": True}
SCHEMA = {"type": "json_schema", "name": "a", "schema": {"type": "object"}}
# For each field values that differ in the least way that counts, None among them.
VALUES: dict[str, list[Any]] = {
    "model": ["toy", "other", "gone"],
    "instructions": ["Be brief.", "Be brief. ", ""],
    "tools": [[SEARCH], [SHELL], [SEARCH, SHELL], [SHELL, SEARCH], []],
    "tool_choice": ["auto", "none", "required", {"type": "function", "name": "shell"}],
    "parallel_tool_calls": [True, False],
    "max_tool_calls": [1, 2],
    "max_output_tokens": [1, 2],
    "temperature": [0, -0.0, 1, 0.5],
    "top_p": [0.5, 1],
    "presence_penalty": [0, 1],
    "frequency_penalty": [0, 1],
    "top_logprobs": [0, 1],
    "reasoning": [{"effort": "low"}, {"effort": "high"}, {"context": "all_turns"}, {}],
    "text": [{"format": SCHEMA}, {"format": {"type": "json_object"}}, {"verbosity": "low"}],
    "include": [["message.output_text.logprobs"], ["reasoning.encrypted_content"], []],
    "store": [True, False],
    "truncation": ["auto", "disabled"],
    "context_management": [[{"type": "compaction"}], [{"type": "compaction", "compact_threshold": 5}], []],
    "metadata": [{"a": "1", "b": "2"}, {"b": "2", "a": "1"}, {}],
    "conversation": ["conv_1", {"id": "conv_2"}],
    "prompt_cache_key": ["a", "b"],
    "prompt_cache_options": [{"prewarm": True}, {"prewarm": False}],
    "safety_identifier": ["a", "b"],
    "user": ["a", "b"],
    "background": [True, False],
    "generate": [True, False],
    "seed": [1, 2],
}
BASE: dict[str, Any] = {"model": "toy", "store": False, "tools": [SEARCH], "instructions": "Be brief."}


def services() -> TurnServices:
    pipeline = Pipeline()
    other = TokenModel("other", format=ToyFormat(), tokenizer=CharTokenizer(), engine=pipeline.engine)
    pipeline.services.models.update({"other": other})  # type: ignore[attr-defined]  # a dictionary, as the pipeline made it
    return pipeline.services


def create(fields: Mapping[str, Any]) -> ResponseCreate:
    """As a door decodes it, also what it would refuse then."""
    return msgspec.json.decode(json.dumps(fields).encode(), type=ResponseCreate)


def seen(terms: Terms) -> tuple[Any, ...]:
    """Everything that follows from terms, by value; of the context what stands in it, wherever it was made."""
    prompt = terms.context.prompt
    return (
        terms.model.name,
        prompt.digest,
        (prompt.instructions, prompt.tools, prompt.tool_places, prompt.reasoning_effort, prompt.keep_reasoning),
        terms.context.offer,
        terms.rules,
        terms.wishes,
        terms.settings,
        terms.echo,
        (terms.stores, terms.conversation_id, terms.is_warm_up, terms.seals_reasoning, terms.leaves_nothing),
        terms.compact_threshold,
    )


def outcome(make: Callable[[], Terms]) -> object:
    try:
        return seen(make())
    except ApiError as error:
        return type(error), str(error), error.param


CHANGE = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from([*VALUES[name], None]))
)
STEP = st.tuples(st.lists(CHANGE, max_size=2), st.sampled_from([NO_SETTINGS, ChainSettings(effort="low")]))


@given(st.lists(STEP, min_size=1, max_size=6))
def test_a_lane_gives_every_create_the_terms_of_its_own(
    steps: list[tuple[list[tuple[str, Any]], ChainSettings]],
) -> None:
    lane, known = LaneTerms(), services()
    fields = dict(BASE)
    for changes, settings in steps:
        fields |= dict(changes)
        request = create(fields)
        expected = outcome(partial(terms_of, services(), request, settings))
        assert outcome(partial(lane.of, known, request, settings)) == expected


@pytest.mark.parametrize("name", sorted(VALUES))
def test_terms_are_taken_over_only_where_every_setting_is_the_same(name: str) -> None:
    known = services()
    for value in VALUES[name]:
        lane = LaneTerms()
        before = lane.of(known, create(BASE), NO_SETTINGS)
        again = lane.of(known, create({**BASE, "input": "more", "previous_response_id": "resp_1"}), NO_SETTINGS)
        assert again is before, "the input and the parent are no settings"
        changed = create({**BASE, name: value})
        expected = outcome(partial(terms_of, known, changed, NO_SETTINGS))
        assert outcome(partial(lane.of, known, changed, NO_SETTINGS)) == expected


def test_terms_end_with_their_model_their_chains_settings_and_their_lane() -> None:
    known, lane = services(), LaneTerms()
    before = lane.of(known, create(BASE), NO_SETTINGS)
    assert lane.of(known, create(BASE), ChainSettings(effort="low")) is not before
    lane.of(known, create(BASE), NO_SETTINGS)
    known.models["toy"] = known.models["other"]  # type: ignore[index]  # loaded anew
    assert lane.of(known, create(BASE), NO_SETTINGS).model is known.models["other"]
    assert LaneTerms().of(known, create(BASE), NO_SETTINGS) is not before


def test_without_caches_nothing_is_taken_over() -> None:
    known, lane = replace(services(), remembers=False), LaneTerms()
    assert lane.of(known, create(BASE), NO_SETTINGS) is not lane.of(known, create(BASE), NO_SETTINGS)


def test_a_lane_keeps_no_message_alive() -> None:
    """A raw value is a view of the message it came in."""
    lane, known = LaneTerms(), services()
    message = json.dumps({**BASE, "input": "x" * 100_000}).encode()
    lane.of(known, msgspec.json.decode(message, type=ResponseCreate), NO_SETTINGS)
    assert sys.getrefcount(message) == 2, "our own, and that of the call"
