import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.structural_tags import TagMatcher

from hotloop.formats.grammar.ecma_pattern import NotEcma, ecma_pattern
from hotloop.formats.grammar.lark_reader import parse_lark
from hotloop.formats.grammar.lark_writer import write_lark
from hotloop.formats.grammar.parts import after_trigger, ruled, without
from hotloop.formats.grammar.regex_text import parse_pattern, write_pattern
from hotloop.formats.grammar.structural_tag import MAX_PARTS, LazyForm
from hotloop.seams.engine import Constraint, Form, JsonSchema, NotExpressible, StructuralTag

SCHEMA = '{"type": "object", "x-guidance": {"whitespace_flexible": false}}'


def form(constraint: Constraint) -> Form:
    assert constraint.pass_through is not None
    return constraint.pass_through.form()


def test_plain_json_output_is_its_schema() -> None:
    assert form(ruled(["json"], [f"json: %json {SCHEMA}"])) == JsonSchema({"type": "object"})


def test_calls_behind_a_control_token_are_dispatched_by_it() -> None:
    ruled_calls = after_trigger(
        7, "<tool_call>", ['call: "x" arguments <[8]>', f"arguments: %json {SCHEMA}"], once=True
    )
    assert form(ruled_calls) == StructuralTag(
        {
            "type": "structural_tag",
            "format": {
                "type": "token_dispatch",
                "rules": [
                    [
                        7,
                        {
                            "type": "sequence",
                            "elements": [
                                {"type": "const_string", "value": "x"},
                                {"type": "json_schema", "json_schema": {"type": "object"}},
                                {"type": "token", "token": 8},
                            ],
                        },
                    ]
                ],
                "loop": False,
            },
        }
    )


def test_text_without_a_spelled_marker_excludes_it() -> None:
    excluded = {"type": "any_text", "excludes": ["<|tool call|>"]}
    assert form(without(None, "<|tool call|>")) == StructuralTag({"type": "structural_tag", "format": excluded})
    assert form(without(9, "<x>")) == StructuralTag(
        {"type": "structural_tag", "format": {"type": "any_tokens", "exclude_tokens": [9]}}
    )


def test_a_string_that_may_not_look_like_another_type_is_any_text_up_to_its_end() -> None:
    grammar = 'start: text\ntext[suffix="</v>"]: TEXT\nTEXT: (/(?s:.*)/) & ~/\\s*(?:true|false)\\s*/'
    until = {"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": "</v>"}
    assert LazyForm(grammar).form() == StructuralTag({"type": "structural_tag", "format": until})


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (write_lark(parse_lark('start: "(" start? ")"'), "raw"), "recursive_grammar"),
        (f"/{write_pattern(parse_pattern('(?i)a'), 'raw')}/", "unsupported_pattern"),
        (r"/\p{Lu}/", "unsupported_pattern"),
        ("/(?s:.*)/ & ~/(?s:.*)[ab](?s:.*)/", "unsupported_exclusion"),
    ],
)
def test_what_cannot_be_said_has_a_name(grammar: str, reason: str) -> None:
    assert LazyForm(f"start: {grammar}").form() == NotExpressible(reason)


def test_a_grammar_that_doubles_with_every_rule_is_given_up_in_time() -> None:
    lines = [f"r{index}: r{index + 1} r{index + 1}" for index in range(60)]
    assert LazyForm("\n".join(["start: r0", *lines, 'r60: "x"'])).form() == NotExpressible("grammar_too_large")
    assert MAX_PARTS < 100_000


# Python counts 1C to 1F as blanks.
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\x1c\x1d\x1e\x1f"), max_size=6))
@pytest.mark.parametrize(
    "pattern", [r"[a-z \"\n]+", r"[^\n]*", r"\S+", r"[\s\S]*", r".*\\", r"[!-~]*", r"\s*x|\d{2,3}"]
)
def test_a_pattern_inside_json_lets_through_what_the_pattern_does(pattern: str, text: str) -> None:
    """`--` between classes is what ECMAScript lacks: the pattern over escaped text has many."""
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    written = LazyForm(f"start: /{write_pattern(parse_pattern(pattern), 'json')}/").form()
    assert isinstance(written, StructuralTag)
    wanted = re.fullmatch(pattern, text) is not None
    units = escaped.encode()
    assert TagMatcher(written.tag, [bytes([byte]) for byte in range(256)], frozenset()).accepts(list(units)) == wanted


def test_a_difference_with_a_property_is_no_ecma_pattern() -> None:
    with pytest.raises(NotEcma):
        ecma_pattern(write_pattern(parse_pattern(r"[\p{L}\n]"), "json"))


def test_a_text_that_ends_in_mid_token_ends_at_the_first_spelling_of_its_marker() -> None:
    """The token behind `</` is known by its id, but `</` may be a part of the token in front of it."""
    grammar = 'start: "x" text "y"\ntext: /(?:(?s:.*))<\\// <[5]>\nSPELLING_5: "|END|"'
    tag = {"type": "tag", "begin": "", "content": {"type": "any_text"}, "end": "</|END|"}
    fixed = [{"type": "const_string", "value": text} for text in ("x", "y")]
    written = {"type": "sequence", "elements": [fixed[0], tag, fixed[1]]}
    assert LazyForm(grammar).form() == StructuralTag({"type": "structural_tag", "format": written})
    digit = {"type": "regex", "pattern": r"[\s\S]*\d"}
    assert LazyForm(r"start: /(?s:.*)\d/").form() == StructuralTag({"type": "structural_tag", "format": digit})
