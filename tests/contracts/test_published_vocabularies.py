"""Formats over the vocabularies as their models publish them, and those beside the same vocabularies in GGUF files."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.contracts import test_format_contract as contract
from tests.contracts.format_case import FormatCase
from tests.contracts.formats import CASES
from tests.support.vocabularies import gguf, hugging_face

from hotloop.tokenizers.fast import corpus

pytestmark = pytest.mark.long  # they come from npm


def _published(case_name: str, vocabulary: str) -> FormatCase:
    """The case over `NAME/tokenizer.json`. A marker that it spells as text (DeepSeek V3 has no token for thinking) cannot be
    told from the same text in an answer."""
    case = next(case for case in CASES if case.name == case_name)

    def is_told_apart(text: str) -> bool:
        published = hugging_face(f"{vocabulary}/tokenizer.json")
        return not any(mark in text for mark in case.specials if published.special(mark) is None)

    def is_said(text: str) -> bool:
        return case.shape.said(text) and is_told_apart(text)

    def is_thought(text: str) -> bool:
        return case.shape.thought(text) and is_told_apart(text)

    return replace(
        case,
        name=f"{case_name}-published",
        vocabulary=lambda: hugging_face(f"{vocabulary}/tokenizer.json"),
        shape=replace(case.shape, said=is_said, thought=is_thought),
        examples=100,
    )


PUBLISHED = [
    _published("qwen3-real", "qwen3"),
    _published("qwen2.5-real", "qwen2_5"),
    _published("llama3.1", "llama3_1"),
    _published("deepseek-v3.1-real", "deepseek_v3"),
    _published("deepseek-v3.2-real", "deepseek_v3"),
]


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name)
@pytest.mark.parametrize(
    "promise",
    [
        contract.test_the_chain_reads_like_a_full_render_after_any_turns,
        contract.test_tokens_equal_a_full_render_when_both_sides_tokenize_the_items,
        contract.test_sampled_ids_are_kept_verbatim_behind_the_generation_prompt,
        contract.test_parsing_what_was_rendered_gives_the_items_back,
        contract.test_nothing_a_user_writes_becomes_a_control_token,
    ],
    ids=lambda promise: promise.__name__,
)
def test_the_format_contract_holds_over_the_published_vocabulary(
    case: FormatCase, promise: Callable[[FormatCase], None]
) -> None:
    promise(case)


def _composed(text: str) -> str:
    """Qwen's `tokenizer.json` composes characters first; libllama does not, nor does its GGUF file ask for it."""
    return unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("file", "published", "prepared"), [("qwen2", "qwen2_5", _composed), ("llama-bpe", "llama3_1", str)]
)
def test_a_gguf_file_gives_the_ids_that_the_published_vocabulary_gives(
    file: str, published: str, prepared: Callable[[str], str]
) -> None:
    ours, theirs = gguf(file), hugging_face(f"{published}/tokenizer.json")
    pieces = [ours.piece(token) for token in range(ours.vocabulary_size)]
    # `[PAD151674]` is a token in the file alone, which text must not become: such text is cut there.
    texts = [text for text in corpus(pieces) if "[PAD" not in text]
    assert [text for text in texts if ours.encode(prepared(text)) != theirs.encode(text)] == []
