"""Which vocabularies the benches that compare with a stateless baseline measure, and what a server is told of them."""

import argparse
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from hotloop.bench import rollout, rollout_plan, turn, turn_plan
from hotloop.bench.answers import BenchError
from hotloop.bench.vocabularies import (
    DEMONSTRATION,
    FAST,
    LIBRARY,
    Vocabularies,
    add_options,
    load_both,
    vocabularies_of,
)
from hotloop.tiny import model_path
from hotloop.tokenizers.tokenizer_json import JsonTokenizer

DEEPSEEK = Path(".assets/tokenizers/deepseek_v3.json")


def given(*arguments: str) -> Vocabularies:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return vocabularies_of(parser.parse_args(arguments))


def test_a_published_vocabulary_is_the_librarys_and_the_demonstration_models_stays_the_fast_one(tmp_path: Path) -> None:
    asked = given("--tokenizer", str(DEEPSEEK), "--format", "deepseek-v3.1")
    both = load_both(asked, tmp_path)
    assert both[LIBRARY].flags == ("--tokenizer", str(DEEPSEEK), "--format", "deepseek-v3.1")
    assert both[LIBRARY].name == f"deepseek_v3, deepseek-v3.1, tokenizers {version('tokenizers')}"
    assert isinstance(both[LIBRARY].tokenizer, JsonTokenizer)
    assert both[FAST].flags == ("--model", str(model_path()))
    assert both[FAST].name == "demonstration model, hotloop's own encoder"


def test_without_one_the_library_encodes_the_demonstration_models(tmp_path: Path) -> None:
    assert given() == DEMONSTRATION
    both = load_both(DEMONSTRATION, tmp_path)
    assert both[LIBRARY].flags == ("--model", str(model_path()), "--tokenizer", str(tmp_path / "tokenizer.json"))
    text = "def total(values): return sum(values)"
    assert isinstance(both[LIBRARY].tokenizer, JsonTokenizer)
    assert not isinstance(both[FAST].tokenizer, JsonTokenizer)
    assert list(both[LIBRARY].tokenizer.encode(text)) == list(both[FAST].tokenizer.encode(text))


@pytest.mark.parametrize(
    "measure", [partial(rollout.measure, rollout_plan.QUICK), partial(turn.measure, turn_plan.QUICK)]
)
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Vocabularies(tokenizer=Path("t.json")), "--tokenizer needs --format NAME"),
        (Vocabularies(format="qwen3"), "--format names the family of a --tokenizer"),
        (Vocabularies(tokenizer=Path("gone.json"), format="qwen3"), r"gone\.json: not a tokenizer\.json"),
        (Vocabularies(model=Path(".assets/vocabularies/deepseek-llm.gguf")), "cannot be written as a tokenizer.json"),
    ],
)
def test_a_vocabulary_that_cannot_be_used_is_one_line_before_anything_is_started(
    measure: Callable[[Vocabularies], object], given: Vocabularies, said: str
) -> None:
    with pytest.raises(BenchError, match=said):
        measure(given)
