"""Whose fault a refused grammar is: the request's field is named, and a good constraint is judged once."""

import json
from collections.abc import Sequence

import pytest
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.constraints.validator import InlineValidator
from hotloop.errors import ApiError, SchemaTooComplex, UnsupportedValue
from hotloop.formats import chatml
from hotloop.models.constraint_book import OFF_LOOP_BYTES, ConstraintBook
from hotloop.protocol.tools import decode_tools
from hotloop.seams.grammar import GrammarProblem
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.model_context import ContextCache, ContextShelf

TOKENIZER = ToyTokenizer()
FINE = {"type": "object", "properties": {"a": {"type": "string"}}}
WRONG = {"type": "object", "not": {"type": "string"}}
BOMB = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(a{1000}){1000}"}}, "required": ["a"]}


class CountingValidator:
    """The real one, with an eye on what it is asked."""

    def __init__(self) -> None:
        self._inner = InlineValidator(TOKENIZER.vocabulary_size)
        self.asked: list[int] = []

    async def check(self, grammars: Sequence[str]) -> GrammarProblem | None:
        self.asked.append(len(grammars))
        return await self._inner.check(grammars)

    async def close(self) -> None:
        await self._inner.close()


def book(validator: CountingValidator | None = None) -> ConstraintBook:
    return ConstraintBook(chatml(TOKENIZER, thinking=True), validator or CountingValidator())


def function(name: str, schema: object, *, strict: bool = True) -> dict[str, object]:
    return {"type": "function", "name": name, "strict": strict, "parameters": schema}


def custom(syntax: str, definition: str) -> dict[str, object]:
    return {
        "type": "custom",
        "name": "free",
        "format": {"type": "grammar", "syntax": syntax, "definition": definition},
    }


def context(*tools: dict[str, object], shelf: ContextShelf | None = None) -> PromptContext:
    places = tuple(f"tools[{2 * index + 1}]" for index in range(len(tools)))  # hosted tools stood between them
    return PromptContext(tools=decode_tools(json.dumps(tools).encode()), tool_places=places, shelf=shelf)


async def refusal(rules: CallRules, *tools: dict[str, object]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await book().get(context(*tools), rules)
    return refused.value


async def test_the_tool_at_fault_is_named() -> None:
    for choice in ("auto", "required"):
        error = await refusal(CallRules(choice), function("a", FINE), function("b", WRONG), function("c", FINE))
        assert isinstance(error, UnsupportedValue) and error.param == "tools[3].parameters"
        error = await refusal(CallRules(choice), function("a", FINE), function("b", BOMB))
        assert isinstance(error, SchemaTooComplex) and error.param == "tools[3].parameters"


async def test_the_grammar_of_a_custom_tool_is_named() -> None:
    error = await refusal(CallRules(), function("a", FINE), custom("regex", "(a{1000}){1000}"))
    assert isinstance(error, SchemaTooComplex) and error.param == "tools[3].format.definition"
    error = await refusal(CallRules(), custom("lark", "start: (((" + "(" * 60_000))
    assert isinstance(error, SchemaTooComplex) and error.param == "tools[1].format.definition"


async def test_the_schema_of_the_text_is_named() -> None:
    error = await refusal(CallRules(text_schema=json.dumps(BOMB).encode()), function("a", FINE))
    assert isinstance(error, SchemaTooComplex) and error.param == "text.format.schema"
    error = await refusal(CallRules("none", text_schema=json.dumps(WRONG).encode()))
    assert isinstance(error, UnsupportedValue) and error.param == "text.format.schema"


async def test_what_is_not_strict_or_not_allowed_is_not_judged() -> None:
    assert await book().get(context(function("a", WRONG, strict=False)), CallRules("required")) is not None
    allowed = CallRules(allowed=frozenset(["a"]))
    assert await book().get(context(function("a", FINE), function("b", BOMB)), allowed) is not None
    assert await book().get(context(function("b", BOMB)), CallRules("none")) is not None


async def test_a_constraint_is_built_and_judged_once_per_context_and_rules() -> None:
    validator = CountingValidator()
    kept = book(validator)
    shelf = ContextCache().shelf(b"1")
    first = await kept.get(context(function("a", FINE), shelf=shelf), CallRules())
    assert await kept.get(context(function("a", FINE), shelf=shelf), CallRules()) is first
    assert validator.asked == [2]  # the tool alone, and all together
    await kept.get(context(function("a", FINE), shelf=shelf), CallRules("required"))
    assert len(validator.asked) == 2


async def test_a_long_schema_gives_the_same_constraint() -> None:
    long = {**FINE, "description": "x" * OFF_LOOP_BYTES}
    on_loop = ConstraintBook(chatml(TOKENIZER, thinking=True), None)._build(context(function("a", long)), CallRules())
    assert await book().get(context(function("a", long)), CallRules()) == on_loop[0]


async def test_without_a_validator_nothing_is_judged() -> None:
    plain = ConstraintBook(chatml(TOKENIZER, thinking=True), None)
    assert await plain.get(context(function("a", WRONG)), CallRules()) is not None
