"""Families' call grammars at work: on the running engine with a random model, and over a real vocabulary.

A random model writes whatever the grammar leaves open, so what it says is well-formed by the grammar alone.
"""

import json
from array import array
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tests.contracts.llama_cases import LLAMA_SPECIALS
from tests.support.generating import generate
from tests.support.random_gguf import CONTROL, USER_DEFINED, write_random_gguf
from tests.support.toy_tokenizer import GLM_SPECIALS
from tests.support.vocabularies import gguf

from hotloop.engines.llama import GgufTokenizer, LlamaEngine
from hotloop.engines.llama.grammar import ConstraintRun, GrammarVocabulary
from hotloop.formats import format_named
from hotloop.protocol.items import FunctionCall, Message, OutputText, Reasoning, ReasoningText
from hotloop.protocol.tools import decode_tools
from hotloop.seams.engine import EndReason, Sampling
from hotloop.seams.format import Extension, ItemClosed, ItemDelta, ItemOpened
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.seams.tokenizer import Tokenizer
from hotloop.session.principal import LOCAL
from hotloop.session.token_log import TokenView

SCHEMA = {
    "type": "object",
    "properties": {"level": {"enum": ["low", "high"]}, "count": {"enum": [1, 20]}, "force": {"type": "boolean"}},
    "required": ["level", "count", "force"],
    "additionalProperties": False,
}
TOOLS = decode_tools(json.dumps([{"type": "function", "name": "act", "strict": True, "parameters": SCHEMA}]).encode())
CONTEXT = PromptContext(tools=TOOLS, reasoning_effort="none")
NAMED = CallRules("named", frozenset(["act"]))
LLAMA = tuple(special for special in LLAMA_SPECIALS if special != "<|eot_id|>")
FAMILIES = {
    "chatml": (CONTROL, USER_DEFINED),
    "qwen3": (CONTROL, USER_DEFINED),
    "qwen3-coder": (CONTROL, USER_DEFINED),
    "llama3": ((*LLAMA, "<|eot_id|>"), ()),
    "glm-4.6": (GLM_SPECIALS, ()),
}


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_random_model_calls_the_named_tool_as_its_schema_says(family: str, tmp_path: Path) -> None:
    control, user_defined = FAMILIES[family]
    path = write_random_gguf(tmp_path / "model.gguf", control=control, user_defined=user_defined)
    tokenizer = GgufTokenizer(str(path))
    format = format_named(family, tokenizer)
    start = format.begin(CONTEXT)
    asked = format.extend(start.state, len(start.tokens), [Message(role="user", content="go")])
    assert isinstance(asked, Extension)
    prompt = start.tokens + asked.tokens + format.generation_prompt(asked.state)
    engine = await LlamaEngine.start(str(path), threads=1)
    calls = 0
    for seed in range(4):
        handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
        sampling = Sampling(max_tokens=200, temperature=1.0, seed=seed, stop_tokens=format.stop_tokens)
        outcome = await generate(handle, 0, prompt, sampling, constraint=format.constraint(CONTEXT, NAMED))
        handle.close()
        assert outcome.reason in (EndReason.STOP, EndReason.LENGTH), outcome.detail
        if outcome.reason is EndReason.STOP:  # a random thought may take all the tokens there are
            calls += 1
            parser = format.parser(CONTEXT)
            events = [*parser.feed(outcome.ids, None), *parser.finish(complete=True)]
            opened = [event for event in events if isinstance(event, ItemOpened) and event.kind != "reasoning"]
            assert opened == [ItemOpened("function_call", "act")]
            said = events[events.index(opened[0]) :]
            assert said[-1] == ItemClosed()
            jsonschema.validate(json.loads("".join(one.text for one in said if isinstance(one, ItemDelta))), SCHEMA)
    await engine.close()
    assert calls


@cache
def masks(name: str, specials: tuple[str, ...], stop: str) -> GrammarVocabulary:
    """llguidance over a real vocabulary."""
    tokenizer = gguf(name)
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocabulary_size)]
    return GrammarVocabulary(
        pieces,
        ids_of(tokenizer, specials),
        ids_of(tokenizer, (stop,)),
        lambda text: list(tokenizer.encode(text.decode())),
    )


def ids_of(tokenizer: Tokenizer, spellings: tuple[str, ...]) -> list[int]:
    return [token for spelling in spellings if (token := tokenizer.special(spelling)) is not None]


@pytest.mark.parametrize("rules", [NAMED, CallRules("auto")], ids=["named", "auto"])
@pytest.mark.parametrize(
    ("family", "vocabulary", "specials", "stop"),
    [
        ("chatml", "qwen2", CONTROL, "<|im_end|>"),
        ("qwen3", "qwen2", CONTROL, "<|im_end|>"),
        ("llama3", "llama-bpe", LLAMA, "<|eot_id|>"),
    ],
)
def test_every_token_of_a_call_is_in_the_mask_of_a_real_vocabulary(
    family: str, vocabulary: str, specials: tuple[str, ...], stop: str, rules: CallRules
) -> None:
    tokenizer = gguf(vocabulary)
    format = format_named(family, tokenizer)
    constraint = format.constraint(CONTEXT, rules)
    assert constraint is not None
    good = FunctionCall(call_id="c", name="act", arguments='{"level": "high", "count": 20, "force": true}')
    bad = FunctionCall(call_id="c", name="act", arguments='{"level": "high", "count": 21, "force": true}')

    def taken(call: FunctionCall) -> bool:
        ids: array[int] = format.encode_items(CONTEXT, [call])
        run = ConstraintRun(masks(vocabulary, specials, stop), constraint, format.stop_tokens)
        for token in ids:
            allowed = run.allowed()
            if allowed is not None and not np.isin(token, allowed):
                return False
            if token not in run.stop_tokens:
                run.accept(token)
        return True

    assert taken(good)
    assert not taken(bad)


def test_the_mask_of_a_real_vocabulary_never_holds_a_control_token_inside_text() -> None:
    tokenizer = gguf("qwen2")
    format = format_named("chatml", tokenizer)
    vocabulary = masks("qwen2", CONTROL, "<|im_end|>")
    constraint = format.constraint(PromptContext(), CallRules(text_schema=b'{"type": "object"}'))
    assert constraint is not None
    run = ConstraintRun(vocabulary, constraint, format.stop_tokens)
    for token in tokenizer.encode('{"a": "'):
        run.accept(token)
    allowed = run.allowed()
    assert allowed is not None
    assert not np.isin(ids_of(tokenizer, CONTROL), allowed).any()
    said = Message(role="assistant", content=[OutputText(text='{"a": "x"}')])
    thought = Reasoning(content=[ReasoningText(text="x")])
    assert format.encode_items(PromptContext(), [thought, said]) == format.encode_items(PromptContext(), [said])
