"""What every format's call grammar promises: it takes what the model of that family writes, and nothing that breaks a rule."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import llguidance
import pytest
from tests.contracts.format_case import FormatCase
from tests.contracts.formats import CASES
from tests.support.structural_tags import TagMatcher

from hotloop.errors import UnsupportedValue
from hotloop.protocol.items import CustomToolCall, FunctionCall, Item, Message, OutputText, Reasoning, ReasoningText
from hotloop.protocol.tools import Tool, decode_tools
from hotloop.seams.engine import Constraint, JsonSchema, StructuralTag
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer

# Over a vocabulary made here: the grammar does not depend on the rest, and a real one takes seconds.
_MADE = [case for case in CASES if case.vocabulary is None]
_FAMILIES = {case.shared_format.name for case in _MADE}
_OTHERS = [replace(case, vocabulary=None) for case in CASES if case.vocabulary is not None]
CONSTRAINED = [
    *_MADE,
    *{case.shared_format.name: case for case in _OTHERS if case.shared_format.name not in _FAMILIES}.values(),
]
pytestmark = [
    pytest.mark.parametrize("case", CONSTRAINED, ids=lambda case: case.name),
    # by the engine here, and by one that constrains itself
    pytest.mark.parametrize("takes", ["grammar", "pass_through"], indirect=True),
]

GRAMMAR = {"type": "grammar", "syntax": "lark", "definition": 'start: "x" /[a-z"]+/ LF\n%import common.LF'}
DIGITS = {"type": "grammar", "syntax": "regex", "definition": "[0-9]+\n"}
TOOLS = decode_tools(
    json.dumps(
        [
            {
                "type": "function",
                "name": "edit",
                "strict": True,
                "parameters": {
                    "type": "object",
                    "properties": {"path": {"type": "string"}, "line": {"type": "integer"}},
                    "required": ["path", "line"],
                    "additionalProperties": False,
                },
            },
            {"type": "custom", "name": "digits", "format": DIGITS},
            {"type": "custom", "name": "words", "format": GRAMMAR},
        ]
    ).encode()
)
ANSWER = (
    b'{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"], "additionalProperties": false}'
)
THOUGHT = Reasoning(summary=[], content=[ReasoningText(text="Let me see.")])


class _Vocabulary:
    """What `llguidance.TokenizerWrapper` asks of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, specials: Sequence[int], stop: int) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = stop
        self.tokens = [tokenizer.piece(token) for token in range(tokenizer.vocabulary_size)]
        self.special_token_ids = list(specials)

    def __call__(self, text: bytes) -> list[int]:
        return list(self._tokenizer.encode(text.decode()))


@lru_cache(maxsize=8)
def compiler(case_name: str) -> Any:
    case = next(case for case in CONSTRAINED if case.name == case_name)
    tokenizer, stops = case.tokenizer(), case.shared_format.stop_tokens
    specials = [token for spelling in case.specials if (token := tokenizer.special(spelling)) is not None]
    wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokenizer, specials, min(stops)))
    return llguidance.LLTokenizer(wrapper, eos_token=sorted(stops))


Takes = Callable[[FormatCase, Constraint, Sequence[int]], bool]


def grammar_takes(case: FormatCase, constraint: Constraint, ids: Sequence[int]) -> bool:
    if constraint.trigger is not None:
        if constraint.trigger not in ids:
            return False
        ids = ids[ids.index(constraint.trigger) + 1 :]
    matcher = llguidance.LLMatcher(compiler(case.name), constraint.grammar)
    assert not matcher.is_error(), matcher.get_error()
    return bool(matcher.try_consume_tokens(list(ids)) == len(ids) and matcher.is_accepting())


def form_takes(case: FormatCase, constraint: Constraint, ids: Sequence[int]) -> bool:
    assert constraint.pass_through is not None
    form, tokenizer = constraint.pass_through.form(), case.tokenizer()
    assert form is constraint.pass_through.form()  # made once
    if isinstance(form, JsonSchema):
        form = StructuralTag({"type": "structural_tag", "format": {"type": "json_schema", "json_schema": form.schema}})
    assert isinstance(form, StructuralTag), form
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocabulary_size)]
    return TagMatcher(form.tag, pieces, frozenset(tokenizer.special_ids.values())).accepts(ids)


@pytest.fixture
def takes(request: pytest.FixtureRequest) -> Takes:
    return {"grammar": grammar_takes, "pass_through": form_takes}[request.param]


def outputs(case: FormatCase, context: PromptContext, items: Sequence[Item]) -> Iterator[list[int]]:
    """The ids, with and without a thought in front: some families have to think, others cannot."""
    for output in (items, [THOUGHT, *items]):
        ids = list(case.shared_format.encode_items(context, output))
        while ids and ids[-1] in case.shared_format.stop_tokens:
            ids.pop()
        yield ids


def edit(arguments: str) -> FunctionCall:
    return FunctionCall(call_id="functions.edit:0", name="edit", arguments=arguments)


def free(name: str, text: str) -> CustomToolCall:
    return CustomToolCall(call_id=f"functions.{name}:0", name=name, input=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=[OutputText(text=text)])


GOOD = '{"path": "a\\n\\"b\\"", "line": 3}'


def compact(items: Sequence[Item]) -> list[Item]:
    """The same calls with JSON as families write it that leave out the blanks."""
    out: list[Item] = []
    for item in items:
        match item:
            case FunctionCall():
                out.append(edit(json.dumps(json.loads(item.arguments), separators=(",", ":"))))
            case CustomToolCall():
                written = json.dumps({"input": item.input}, separators=(",", ":"), ensure_ascii=False)
                out.append(FunctionCall(call_id=item.call_id, name=item.name, arguments=written))
            case _:
                out.append(item)
    return out


def checker(
    case: FormatCase, takes: Takes, rules: CallRules, tools: tuple[Tool, ...] = TOOLS
) -> Callable[..., bool] | None:
    """Whether a grammar takes items; None for a family that refuses these rules by name."""
    context = PromptContext(instructions=case.context.instructions, tools=tools)
    try:
        constraint = case.shared_format.constraint(context, rules)
    except UnsupportedValue:
        assert case.name.startswith("generic")  # the template says nothing of tools, or not how a call is written
        return None
    assert constraint is not None
    return lambda *items: any(
        takes(case, constraint, ids) for way in (items, compact(items)) for ids in outputs(case, context, way)
    )


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_a_call_of_a_strict_tool_fits_its_schema(case: FormatCase, takes: Takes, choice: str) -> None:
    check = checker(case, takes, CallRules(choice))
    if check is None:
        return
    assert check(edit(GOOD))
    for arguments in ('{"path": "a"}', '{"path": "a", "line": "x y"}', '{"path": "a", "line": 3, "more": 1}'):
        assert not check(edit(arguments)), arguments


@pytest.mark.parametrize("choice", ["required", "auto"])
def test_the_text_of_a_custom_tool_fits_its_grammar(case: FormatCase, takes: Takes, choice: str) -> None:
    check = checker(case, takes, CallRules(choice))
    if check is None:
        return
    assert check(free("digits", "12\n"))
    assert not check(free("digits", "12"))
    assert not check(free("digits", "1a\n"))
    assert check(free("words", 'xa"b\n'))
    assert not check(free("words", "ab\n"))


def test_a_required_call_is_no_text(case: FormatCase, takes: Takes) -> None:
    check = checker(case, takes, CallRules("required"))
    assert check is None or not check(said("hello"))


def test_the_named_tool_alone_is_called_once(case: FormatCase, takes: Takes) -> None:
    check = checker(case, takes, CallRules("named", frozenset(["edit"])))
    if check is None:
        return
    assert check(edit(GOOD))
    assert not check(free("digits", "12\n"))
    assert not check(edit(GOOD), edit(GOOD))


def test_text_under_a_schema_is_json_that_fits(case: FormatCase, takes: Takes) -> None:
    check = checker(case, takes, CallRules(text_schema=ANSWER), tools=())
    if check is None:
        return
    assert check(said('{"ok": true}')) or check(said('{"ok":true}'))
    assert not check(said('{"ok": 1}')) and not check(said("yes"))
