"""Any ids of a vocabulary as text: nothing lost, nothing that is no UTF-8."""

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.vocabularies import gguf, o200k_harmony, toy

from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder
from hotloop.seams.tokenizer import Tokenizer

VOCABULARIES: dict[str, Callable[[], Tokenizer]] = {
    "toy": lambda: toy(("<|im_start|>", "<|im_end|>")),
    "qwen2": lambda: gguf("qwen2"),
    "llama-bpe": lambda: gguf("llama-bpe"),
    "o200k": o200k_harmony,
}


@cache
def split_pieces(name: str) -> list[int]:
    """Tokens that are parts of characters: with random ids alone they would be rare."""
    tokenizer = VOCABULARIES[name]()
    return [token for token in range(tokenizer.vocabulary_size) if not _is_text(tokenizer.piece(token))]


def _is_text(piece: bytes) -> bool:
    try:
        piece.decode()
    except UnicodeDecodeError:
        return False
    return True


def read(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    decoder = TextDecoder(PieceTable(tokenizer.piece))
    return [*(decoder.feed(token) for token in ids), decoder.flush()]


@pytest.mark.parametrize("name", VOCABULARIES)
@given(data=st.data())
def test_any_ids_become_the_text_of_their_bytes(name: str, data: st.DataObject) -> None:
    tokenizer = VOCABULARIES[name]()
    every = st.integers(0, tokenizer.vocabulary_size - 1)  # special tokens too
    ids = data.draw(st.lists(every | st.sampled_from(split_pieces(name)), max_size=24))
    written = b"".join(tokenizer.piece(token) for token in ids)
    deltas = read(tokenizer, ids)
    for delta in deltas:
        delta.encode()  # raises for half a surrogate pair
    assert "".join(deltas) == written.decode("utf-8", "replace")


@pytest.mark.parametrize("name", VOCABULARIES)
@given(text=st.text(st.characters(codec="utf-8")))
def test_text_comes_back_to_the_byte_and_never_in_half_characters(name: str, text: str) -> None:
    tokenizer = VOCABULARIES[name]()
    deltas = read(tokenizer, list(tokenizer.encode(text)))
    assert "".join(deltas) == text
