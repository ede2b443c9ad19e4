"""Whatever schema or grammar a client sends: what the embedded engine writes under it fits it. Through the whole server.

Random rules, a random model, several turns at once. The judges are not the engine's: jsonschema for schemas, an Earley
recogniser for Lark grammars (`support/lark_judge.py`), `re` for regular expressions. The model ends a text by chance, so a
rule that sets no bound may meet the token limit: such a turn proves nothing. It is counted, shown, and another rule takes
its place.
"""

import asyncio
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from tests.support.lark_judge import LarkJudge, is_readable
from tests.support.live_server import live_server
from tests.support.random_gguf import CONTROL, USER_DEFINED, write_random_gguf
from tests.support.random_rules import collect, random_lark, random_regex, random_schema
from tests.support.toy_tokenizer import GLM_SPECIALS

from hotloop.app import start_model
from hotloop.config import ModelSettings, ServerSettings

Json = dict[str, Any]

AT_ONCE = 4  # turns, decoded in one batch; the cost of a step grows with the square of it
SCHEMA_TOKENS, GRAMMAR_TOKENS = 400, 150  # most of one text; grammars may call themselves, and then often never end
SPARE = 2  # rules drawn for each that is to be held, at most
# How each writes a custom tool's text: in a JSON string, up to a control token, up to a spelled tag.
FAMILIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "chatml": (CONTROL, USER_DEFINED),
    "glm-4.6": (GLM_SPECIALS, ()),
    "qwen3-coder": (CONTROL, USER_DEFINED),
}
LONG = [pytest.mark.long, pytest.mark.timeout(3600)]
COUNTS = [pytest.param(10, id="some"), pytest.param(1000, id="thousand", marks=LONG)]
# A thousand in the way of writing that most families have, a hundred in the others'.
EACH = [
    *(pytest.param(family, 10, id=f"{family}-some") for family in FAMILIES),
    pytest.param("chatml", 1000, id="chatml-thousand", marks=LONG),
    *(pytest.param(family, 100, id=f"{family}-hundred", marks=LONG) for family in ("glm-4.6", "qwen3-coder")),
]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is asked for, what is written in the answer, and whether that fits."""

    source: Any
    fields: Json
    written: Callable[[Json], str]
    fits: Callable[[str], bool]


Ask = Callable[[Json], Any]


@asynccontextmanager
async def serving(family: str, folder: Path) -> AsyncGenerator[Ask]:
    """A server of a random model of `family`."""
    control, user_defined = FAMILIES[family]
    path = write_random_gguf(
        folder / "random.gguf",
        template="",
        control=control,
        user_defined=user_defined,
        context=16_384,  # a tool's schema stands in the prompt, a token a byte
        hidden=32,
        layers=1,
    )
    model = await start_model(ModelSettings(path=path, name="random", format=family, sequences=AT_ONCE, threads=1))
    settings = ServerSettings(port=0, caches="off")  # no rule comes twice; KV that is kept costs every step
    async with live_server(model, settings) as server, httpx.AsyncClient(base_url=server.url, timeout=600) as client:

        async def ask(fields: Json) -> Json:
            common = {
                "model": "random",
                "input": "go",
                "temperature": 1.0,
                "store": False,
            }
            answer = await client.post("/responses", json={**common, "reasoning": {"effort": "none"}, **fields})
            found: Json = answer.json()
            return found

        yield ask


async def answers(ask: Ask, rules: Iterator[Rule], count: int) -> list[tuple[Rule, Json]]:
    """What was answered, until `count` answers were written to their end."""
    answered: list[tuple[Rule, Json]] = []
    wanted = count

    async def worker(seed: int) -> None:
        nonlocal wanted
        while wanted > 0 and (rule := next(rules, None)) is not None:
            wanted -= 1
            response = await ask({**rule.fields, "seed": seed})
            answered.append((rule, response))
            wanted += response.get("status") != "completed"

    async with asyncio.TaskGroup() as tasks:
        for number in range(AT_ONCE):
            tasks.create_task(worker(number))
    return answered


def judged(rule: Rule, response: Json) -> str:
    """`valid`, or why nothing can be said. Raises AssertionError for what does not fit."""
    error = response.get("error")
    if error is not None and error["code"] == "schema_too_complex":
        return "refused"
    assert error is None, (rule.source, error)
    if response["status"] == "incomplete":
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}, rule.source
        return "cut"
    written = rule.written(response)
    assert rule.fits(written), f"{rule.source}\n\nwrote {written!r}"
    return "valid"


async def proved(family: str, folder: Path, rules: list[Rule], count: int) -> None:
    """Holds for `count` of the rules, and says what came of the others."""
    started = time.monotonic()
    async with serving(family, folder) as ask:
        answered = await answers(ask, iter(rules), count)
    written = time.monotonic()
    seen = Counter(judged(rule, response) for rule, response in answered)
    took = f"{written - started:.0f} s, judged in {time.monotonic() - written:.0f} s"
    sys.stderr.write(f"{family}: {dict(seen)} in {took}\n")
    assert seen["valid"] >= count, seen
    assert seen["refused"] <= count / 50, seen


# --- what is asked for, and the judges ---


def text_rule(schema: Json) -> Rule:
    """JSON text that fits the schema."""
    format = {"type": "json_schema", "name": "x", "strict": True, "schema": schema}
    return Rule(
        schema,
        {"text": {"format": format}, "max_output_tokens": SCHEMA_TOKENS},
        said,
        lambda text: fits_schema(schema, text),
    )


def call_rule(schema: Json) -> Rule:
    """A call of a strict function."""
    tool = {"type": "function", "name": "act", "strict": True, "parameters": schema}
    return Rule(schema, forced(tool, SCHEMA_TOKENS), called("arguments"), lambda text: fits_schema(schema, text))


def lark_rule(source: str) -> Rule:
    """A call of a custom tool with a Lark grammar."""
    return Rule(source, custom("lark", source), called("input"), lambda text: LarkJudge(source).accepts(text))


def regex_rule(source: str) -> Rule:
    """A call of a custom tool with a regular expression."""
    return Rule(source, custom("regex", source), called("input"), lambda text: re.fullmatch(source, text) is not None)


def custom(syntax: str, definition: str) -> Json:
    format = {"type": "grammar", "syntax": syntax, "definition": definition}
    return forced({"type": "custom", "name": "act", "format": format}, GRAMMAR_TOKENS)


def forced(tool: Json, most: int) -> Json:
    return {"tools": [tool], "tool_choice": "required", "parallel_tool_calls": False, "max_output_tokens": most}


def said(response: Json) -> str:
    (message,) = (item for item in response["output"] if item["type"] != "reasoning")
    (part,) = message["content"]
    text: str = part["text"]
    return text


def called(field: str) -> Callable[[Json], str]:
    def written(response: Json) -> str:
        (call,) = (item for item in response["output"] if item["type"] != "reasoning")
        text: str = call[field]
        return text

    return written


FORMATS = jsonschema.FormatChecker(["ipv4", "uuid", "email"])
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:(?:[0-5]\d|60)(?:\.\d+)?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)"


@FORMATS.checks("date", raises=ValueError)
def is_date(value: object) -> bool:
    """RFC 3339's full-date, which knows a year 0."""
    return not isinstance(value, str) or bool(date.fromisoformat(value.replace("0000-", "0004-", 1)))


@FORMATS.checks("time")
def is_time(value: object) -> bool:
    """RFC 3339's full-time; jsonschema brings none of its own."""
    return not isinstance(value, str) or re.fullmatch(_TIME, value, re.IGNORECASE) is not None


@FORMATS.checks("date-time")
def is_date_time(value: object) -> bool:
    if not isinstance(value, str):
        return True
    day, _, time_of_day = value.upper().partition("T")
    return is_time(time_of_day) and FORMATS.conforms(day, "date")


def fits_schema(schema: Json, text: str) -> bool:
    judge: Any = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    return bool(judge.is_valid(json.loads(text)))


def readable_lark(choose: random.Random) -> str:
    """One that the judge can read."""
    while not is_readable(source := random_lark(choose)):
        pass
    return source


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        ('start: "a" start "b" | ', ["", "ab", "aabb"], ["aab", "ba"]),
        ('start: r r\nr: | "x"', ["", "x", "xx"], ["xxx"]),
        ('start: a "c"\na: b\nb: | a "x"', ["c", "xxc"], ["x"]),
        ('start: /a+/ "ab"', ["aab", "aaab"], ["ab"]),
        ('start: "a" "b"\n%import common.WS\n%ignore WS', ["a b", " ab ", "a\n b\t"], ["a c"]),
    ],
)
def test_the_judge_of_grammars_tells_texts_apart(source: str, good: list[str], bad: list[str]) -> None:
    judge = LarkJudge(source)
    assert all(map(judge.accepts, good))
    assert not any(map(judge.accepts, bad))


@pytest.mark.parametrize("count", COUNTS)
async def test_json_text_fits_its_schema(count: int, tmp_path: Path) -> None:
    await proved("chatml", tmp_path, list(map(text_rule, collect(random_schema, SPARE * count))), count)


@pytest.mark.parametrize(("family", "count"), EACH)
async def test_the_arguments_of_a_strict_function_fit_its_schema(family: str, count: int, tmp_path: Path) -> None:
    await proved(family, tmp_path, list(map(call_rule, collect(random_schema, SPARE * count))), count)


@pytest.mark.parametrize(("family", "count"), EACH)
async def test_a_custom_tools_text_fits_its_lark_grammar(family: str, count: int, tmp_path: Path) -> None:
    await proved(family, tmp_path, list(map(lark_rule, collect(readable_lark, SPARE * count))), count)


@pytest.mark.parametrize(("family", "count"), EACH)
async def test_a_custom_tools_text_fits_its_regular_expression(family: str, count: int, tmp_path: Path) -> None:
    await proved(family, tmp_path, list(map(regex_rule, collect(random_regex, SPARE * count))), count)
