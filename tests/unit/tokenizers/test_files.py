"""Tokenizer files of other makers give the ids that their makers' own libraries give."""

from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from tests.contracts.tokenizers import ASSETS, HARMONY, tekken_path
from tests.unit.tokenizers.test_fast import TEXTS

from hotloop.tokenizers.byte_pairs import PIECE_CHARS, BytePairTokenizer, pieces_of, tekken_file, tiktoken_file
from hotloop.tokenizers.fast import corpus
from hotloop.tokenizers.patterns import O200K
from hotloop.tokenizers.tokenizer_json import JsonTokenizer


@pytest.fixture(scope="module")
def tekken() -> tuple[BytePairTokenizer, Tekkenizer]:
    return tekken_file(tekken_path()), Tekkenizer.from_file(str(tekken_path()))


@given(text=TEXTS)
def test_tekken_gives_mistrals_ids(tekken: tuple[BytePairTokenizer, Tekkenizer], text: str) -> None:
    ours, theirs = tekken
    assert ours.encode(text).tolist() == theirs.encode(text, bos=False, eos=False)


def test_tekken_gives_mistrals_ids_on_the_corpus(tekken: tuple[BytePairTokenizer, Tekkenizer]) -> None:
    ours, theirs = tekken
    for text in corpus([b"<s>", b" the", b"\xe2\x82", b"123"]):
        assert ours.encode(text).tolist() == theirs.encode(text, bos=False, eos=False)
    assert ours.vocabulary_size == theirs.n_words
    assert ours.special("[INST]") == theirs.get_special_token("[INST]")


@pytest.fixture(scope="module")
def o200k() -> BytePairTokenizer:
    return tiktoken_file(ASSETS / "tokenizers/o200k_base.tiktoken", O200K, HARMONY)


@pytest.fixture(scope="module")
def published(o200k: BytePairTokenizer) -> tiktoken.Encoding:
    """The same ranks behind the pattern as OpenAI writes it, word for word (tiktoken_ext/openai_public.py)."""
    from tiktoken.load import load_tiktoken_bpe

    parts = [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+",
    ]  # fmt: skip
    ranks = load_tiktoken_bpe(str(ASSETS / "tokenizers/o200k_base.tiktoken"))
    return tiktoken.Encoding("o200k", pat_str="|".join(parts), mergeable_ranks=ranks, special_tokens={})


def test_o200k_gives_the_published_ids(o200k: BytePairTokenizer, published: tiktoken.Encoding) -> None:
    for text in corpus([b" the", b"\xe2\x82", b"123"]):
        assert o200k.encode(text).tolist() == published.encode_ordinary(text)


LINES = st.lists(
    st.sampled_from(["\n", "\r\n", " ", "\t", "a", " b", "Z1", "!", "/", "é", "1234", "{", "'s", "\u3000", "\x0b"]),
    max_size=60,
)


@given(parts=LINES)
def test_long_text_in_pieces_gives_the_ids_of_the_whole(
    o200k: BytePairTokenizer, tekken: tuple[BytePairTokenizer, Tekkenizer], parts: list[str]
) -> None:
    text = "".join(parts)
    pieces = list(pieces_of(text, 3))
    assert "".join(pieces) == text
    for tokenizer in (o200k, tekken[0]):
        assert [token for piece in pieces for token in tokenizer.encode(piece)] == tokenizer.encode(text).tolist()


def test_pieces_are_bounded_where_there_are_lines() -> None:
    text = "a line of text\n" * 10_000
    assert max(map(len, pieces_of(text, PIECE_CHARS))) <= PIECE_CHARS + 15
    assert list(pieces_of(text, None)) == [text]


def test_pieces_are_bounded_where_there_are_words() -> None:
    assert max(map(len, pieces_of("some words and " * 10_000, PIECE_CHARS))) <= PIECE_CHARS + 15


def test_a_text_that_cannot_be_cut_gives_the_published_ids(
    o200k: BytePairTokenizer, published: tiktoken.Encoding, tekken: tuple[BytePairTokenizer, Tekkenizer]
) -> None:
    for text in ("[" + "{}, " * PIECE_CHARS + "]", "é!" * 2 * PIECE_CHARS):
        assert list(pieces_of(text, PIECE_CHARS)) == [text]
        assert o200k.encode(text).tolist() == published.encode_ordinary(text)
        expected = tekken[1].encode(text, bos=False, eos=False)
        assert tekken[0].encode(text).tolist() == expected


@given(ids=st.lists(st.integers(0, 199_997), max_size=40))
def test_pieces_of_any_ids_are_the_bytes_the_library_decodes(
    o200k: BytePairTokenizer, published: tiktoken.Encoding, ids: list[int]
) -> None:
    assert b"".join(map(o200k.piece, ids)) == published.decode_bytes(ids)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"model": {"type": "nothing"}}', b"\xff"])
def test_a_file_that_is_no_tokenizer_json_says_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"not a tokenizer\.json"):
        JsonTokenizer(path)


def test_other_broken_files_say_so(tmp_path: Path) -> None:
    ranks = tmp_path / "x.tiktoken"
    ranks.write_bytes(b"YQ== 0\nYg== 2\n")
    with pytest.raises(ValueError, match="without gaps"):
        tiktoken_file(ranks, O200K, {})
    tekken = tmp_path / "tekken.json"
    tekken.write_bytes(b'{"vocab": []}')
    with pytest.raises(ValueError, match="not a tekken file"):
        tekken_file(tekken)
