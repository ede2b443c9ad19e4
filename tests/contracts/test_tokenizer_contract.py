"""What every `Tokenizer` promises, run over every tokenizer."""

import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contracts.tokenizers import CASES, PUBLISHED, TokenizerCase

from hotloop.seams.tokenizer import Tokenizer

CHARACTERS = st.characters(exclude_categories=["Cs"])  # a lone surrogate is no character


ALL = [*CASES, *(pytest.param(case, marks=pytest.mark.long) for case in PUBLISHED)]


@pytest.fixture(scope="module", params=ALL, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> TokenizerCase:
    parameter: TokenizerCase = request.param
    return parameter


@pytest.fixture(scope="module")
def tokenizer(case: TokenizerCase, random_model: Path) -> Tokenizer:
    return case.make(random_model)


def decoded(tokenizer: Tokenizer, text: str) -> str:
    return b"".join(tokenizer.piece(token) for token in tokenizer.encode(text)).decode()


@given(text=st.text(CHARACTERS))
def test_the_pieces_of_the_encoded_text_are_the_text(tokenizer: Tokenizer, case: TokenizerCase, text: str) -> None:
    assert decoded(tokenizer, text) == (unicodedata.normalize("NFC", text) if case.composes else text)


@given(data=st.data())
def test_no_text_becomes_a_special_token(tokenizer: Tokenizer, case: TokenizerCase, data: st.DataObject) -> None:
    fragments = st.sampled_from([*case.specials, "<", ">", "</", "tool_call>", "<|", "|>", "im_", " ", "\n", "x", "é"])
    text = "".join(data.draw(st.lists(fragments, max_size=12)))
    special_ids = {tokenizer.special(spelling) for spelling in case.specials}
    assert special_ids.isdisjoint(tokenizer.encode(text))
    assert decoded(tokenizer, text) == text


def test_every_special_has_an_id_below_the_vocabulary_size_and_its_spelling_as_piece(
    tokenizer: Tokenizer, case: TokenizerCase
) -> None:
    for spelling in case.specials:
        token = tokenizer.special(spelling)
        assert token is not None
        assert 0 <= token < tokenizer.vocabulary_size
        assert tokenizer.piece(token) == spelling.encode()


def test_plain_text_is_no_special(tokenizer: Tokenizer) -> None:
    assert tokenizer.special("the") is None
    assert tokenizer.special("") is None
    assert tokenizer.special("<no_such_token>") is None


def test_the_empty_text_has_no_tokens(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("")) == 0


def test_ids_are_32_bit_and_below_the_vocabulary_size(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("read the file 😀")
    assert (ids.typecode, ids.itemsize) == ("I", 4)
    assert max(ids) < tokenizer.vocabulary_size


def test_threads_may_encode_at_the_same_time(tokenizer: Tokenizer) -> None:
    texts = [f"<tool_call> {n} the file é" * 20 for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(tokenizer.encode, texts)) == [tokenizer.encode(text) for text in texts]
