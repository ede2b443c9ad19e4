"""Whatever the schema or grammar: what the embedded engine writes under it fits it. Random grammars, a random model.

The judges are not the engine's: jsonschema for schemas, `re` for regular expressions and for Lark grammars of the same
language. A run that stops at its token limit proves nothing and is not counted.
"""

import json
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import pytest_asyncio
from tests.support.generating import generate

from hotloop.engines.llama import GgufTokenizer, LlamaEngine
from hotloop.formats.grammar.parts import SPACED, AllowedTool, json_value, quoted_input, raw_input
from hotloop.protocol.tools import CustomTool, GrammarFormat
from hotloop.seams.engine import Constraint, EndReason, Sampling
from hotloop.session.principal import LOCAL
from hotloop.session.token_log import TokenView

COUNT = 12  # thousands, through the whole server: test_random_rules
NAMES = ("a", "b c", 'd"', "é", "path")


class Writer:
    """Writes under a constraint with the random model."""

    def __init__(self, engine: LlamaEngine, tokenizer: GgufTokenizer) -> None:
        self._engine = engine
        self._tokenizer = tokenizer

    async def write(self, grammar: str, seed: int) -> str | None:
        """The text, or None if it was not finished."""
        handle = self._engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
        sampling = Sampling(max_tokens=400, temperature=1.0, seed=seed, stop_tokens=self._tokenizer.stop_tokens)
        outcome = await generate(handle, 0, [10, 20, 30], sampling, constraint=Constraint(grammar))
        handle.close()
        assert outcome.reason in (EndReason.STOP, EndReason.LENGTH), outcome.detail
        if outcome.reason is EndReason.LENGTH:
            return None
        return b"".join(map(self._tokenizer.piece, outcome.ids[:-1])).decode()


@pytest_asyncio.fixture
async def writer(random_model: Path) -> AsyncIterator[Writer]:
    engine = await LlamaEngine.start(str(random_model), threads=1)
    yield Writer(engine, GgufTokenizer(str(random_model)))
    await engine.close()


def random_schema(choose: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema of the supported subset whose texts are short."""
    kind = choose.choice(["string", "integer", "enum", "const", "boolean", "pattern", "null", "number"])
    if depth and choose.random() < 0.7:
        kind = choose.choice(["object", "array", "anyOf"])
    match kind:
        case "object":
            names = choose.sample(NAMES, choose.randint(0, 3))
            return {
                "type": "object",
                "properties": {name: random_schema(choose, depth - 1) for name in names},
                "required": [name for name in names if choose.random() < 0.6],
                "additionalProperties": False,
            }
        case "array":
            least = choose.randint(0, 2)
            items = random_schema(choose, depth - 1)
            return {"type": "array", "items": items, "minItems": least, "maxItems": least + choose.randint(0, 2)}
        case "anyOf":
            return {"anyOf": [random_schema(choose, depth - 1) for _ in range(choose.randint(1, 3))]}
        case "enum":
            return {"enum": choose.sample(["x", "é\n", 1, None, True, {"k": [1]}], choose.randint(1, 4))}
        case "const":
            return {"const": choose.choice(['q"', 12, [1, "a"]])}
        case "string":
            return {"type": "string", "maxLength": choose.randint(0, 6)}
        case "pattern":
            return {"type": "string", "pattern": f"^{random_pattern(choose)[0]}$"}
        case "integer":
            low = choose.randint(-50, 50)
            return {"type": "integer", "minimum": low, "maximum": low + choose.randint(0, 300)}
        case "number":
            return {"type": "number", "minimum": -3, "maximum": 3}
        case _:
            return {"type": kind}


def random_pattern(choose: random.Random, depth: int = 2) -> tuple[str, str]:
    """The same language as a regular expression and as a Lark expression."""
    kind = choose.choice(["seq", "alt", "times"] if depth and choose.random() < 0.8 else ["literal", "class"])
    match kind:
        case "seq":
            parts = [random_pattern(choose, depth - 1) for _ in range(choose.randint(1, 3))]
            return "".join(regex for regex, _ in parts), " ".join(lark for _, lark in parts)
        case "alt":
            parts = [random_pattern(choose, depth - 1) for _ in range(choose.randint(1, 3))]
            return f"(?:{'|'.join(regex for regex, _ in parts)})", f"({' | '.join(lark for _, lark in parts)})"
        case "times":
            regex, lark = random_pattern(choose, depth - 1)
            least = choose.randint(0, 2)
            most = least + choose.randint(0, 2) or 1
            return f"(?:{regex}){{{least},{most}}}", f"({lark})~{least}..{most}"
        case "literal":
            text = choose.choice(["a", "xy", '"', "\\", "\n", "\t", "é", "{", "\x01", "/", " b"])
            return re.escape(text), json.dumps(text, ensure_ascii=False)
        case _:
            regex = choose.choice(["[a-c]", r"[^a-z\n]", "[0-9]", r"[\n\t\"]", ".", r"[\s\\]", r"(?i:k)"])
            return regex, f"/{regex}/"


def custom(syntax: Any, definition: str) -> AllowedTool:
    return AllowedTool(CustomTool(name="t", format=GrammarFormat(syntax=syntax, definition=definition)), "tools[0]")


async def test_what_is_written_under_a_schema_fits_it(writer: Writer) -> None:
    finished = 0
    for seed in range(COUNT):
        schema = random_schema(random.Random(seed))
        text = await writer.write(f"start: {json_value(schema, SPACED, 'schema')}", seed)
        if text is not None:
            finished += 1
            jsonschema.validate(json.loads(text), schema)
    assert finished > COUNT / 2


@pytest.mark.parametrize("syntax", ["regex", "lark"])
async def test_a_custom_tools_text_fits_its_grammar(writer: Writer, syntax: str) -> None:
    finished = 0
    for seed in range(COUNT):
        regex, lark = random_pattern(random.Random(seed))
        tool = custom(syntax, regex if syntax == "regex" else f"start: word\nword: {lark}")
        quoted = await writer.write(f'start: "\\"" {quoted_input(tool)} "\\""', seed)
        if quoted is not None:
            finished += 1
            text = json.loads(quoted)
            assert re.fullmatch(regex, text), (regex, text)
            assert json.dumps(text, ensure_ascii=False) == quoted  # written as it would be rendered
        raw = await writer.write(f"start: {raw_input(tool)}", seed)
        assert raw is None or re.fullmatch(regex, raw), (regex, raw)
    assert finished > COUNT / 2
