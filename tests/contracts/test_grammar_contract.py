"""What every `GrammarValidator` promises, run over every validator."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from hotloop.constraints.validator import ChildValidator, InlineValidator
from hotloop.seams.grammar import GrammarValidator

VOCABULARY = 151_936  # of Qwen3: grammars name tokens up to it
OBJECT = 'start: %json {"type": "object", "properties": {"a": {"type": "integer"}}}'
GOOD = [
    OBJECT,
    "start: <[151657]> /[a-z]+/ <[151658]>",
    'start: "a" start | "b"',
    "start: <[^151657]>*",
    'start: call\ncall: "(" %lark {\nstart: "x"\n} ")"',
    "start: %json " + json.dumps({"type": "string", "pattern": "(a+)+$"}),  # derivatives do not backtrack
    "start: %json " + json.dumps({"type": "object", "properties": {"next": {"$ref": "#"}}}),
]
WRONG = [
    "start: (",
    "start: nothing",
    "start: <no_such_token>",
    'start: %json {"type": "object", "not": {"type": "string"}}',
    'start: %json {"type": "string", "pattern": "(?=a)"}',
]
# each ends fast, by a limit of the library's own
TOO_COMPLEX = [
    'start: %json {"$ref": "#"}',
    'start: %json {"oneOf": [{"minimum": 3}, {"maximum": 5}]}',
    'start: %json {"type": "integer", "multipleOf": 123456789, "minimum": 3}',
    "start: " + "(" * 60_000 + '"a"' + ")" * 60_000,
    "start: %json " + json.dumps({"properties": {f"p{n}": {"type": "string"} for n in range(20_000)},
                                 "required": [f"p{n}" for n in range(20_000)]}),
]  # fmt: skip


@pytest.fixture(params=["inline", "child"])
async def validator(request: pytest.FixtureRequest) -> AsyncIterator[GrammarValidator]:
    if request.param == "inline":
        yield InlineValidator(VOCABULARY)
        return
    child = ChildValidator(VOCABULARY, deadline_s=60)  # the machine may be busy; what takes long is another test
    child.start()
    yield child
    await child.close()


async def test_good_grammars_pass(validator: GrammarValidator) -> None:
    assert await validator.check(GOOD) is None
    assert await validator.check([]) is None


@pytest.mark.parametrize("grammar", WRONG)
async def test_a_wrong_grammar_is_named_with_one_line_of_reason(validator: GrammarValidator, grammar: str) -> None:
    for _ in range(2):  # the second time from memory, where there is one
        problem = await validator.check([OBJECT, grammar, GOOD[1]])
        assert problem is not None
        assert problem.index == 1
        assert problem.detail and "\n" not in problem.detail
        assert not problem.is_too_complex


@pytest.mark.parametrize("grammar", TOO_COMPLEX, ids=["circular", "one of", "fuel", "parentheses", "properties"])
async def test_a_grammar_over_a_limit_is_too_complex(validator: GrammarValidator, grammar: str) -> None:
    problem = await validator.check([OBJECT, grammar])
    assert problem is not None and problem.index == 1 and problem.is_too_complex


async def test_many_may_ask_at_once(validator: GrammarValidator) -> None:
    answers = await asyncio.gather(*(validator.check([grammar]) for grammar in (GOOD + WRONG) * 2))
    assert [answer is None for answer in answers] == ([True] * len(GOOD) + [False] * len(WRONG)) * 2


async def test_close_is_idempotent(validator: GrammarValidator) -> None:
    await validator.close()
    await validator.close()
