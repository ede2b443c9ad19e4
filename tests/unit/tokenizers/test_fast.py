"""The fast encoder is used where it gives the ids of the exact one, and only there."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.random_gguf import write_random_gguf

from hotloop.engines.llama import GgufTokenizer
from hotloop.tiny import model_path
from hotloop.tokenizers.byte_pairs import PIECE_CHARS, BytePairs
from hotloop.tokenizers.fast import FastTokenizer, choose_for_gguf, corpus, encoded_by_json, first_difference
from hotloop.tokenizers.gguf_as_json import write_as_json
from hotloop.tokenizers.gguf_vocabulary import NoVocabulary, read_vocabulary
from hotloop.tokenizers.patterns import BY_GGUF_NAME, GPT2

VOCABULARIES = Path(".assets/vocabularies")
TEXTS = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" \n\t0123aA'é<|>")), max_size=200)


@pytest.fixture(scope="module")
def qwen() -> tuple[FastTokenizer, GgufTokenizer]:
    reference = GgufTokenizer(str(VOCABULARIES / "qwen2.gguf"))
    choice = choose_for_gguf(VOCABULARIES / "qwen2.gguf", reference)
    assert isinstance(choice.tokenizer, FastTokenizer), choice.reason
    assert (choice.encoder, choice.reason) == ("tiktoken", "")
    return choice.tokenizer, reference


@given(text=TEXTS)
def test_both_give_the_same_ids_on_any_text(qwen: tuple[FastTokenizer, GgufTokenizer], text: str) -> None:
    quick, reference = qwen
    assert quick.encode(text) == reference.encode(text)


@settings(max_examples=50)
@given(data=st.data())
def test_both_give_the_same_ids_on_marked_text(qwen: tuple[FastTokenizer, GgufTokenizer], data: st.DataObject) -> None:
    quick, reference = qwen
    marks = ["<|im_start|>", "<|im_end|>", "<tool_call>", "</think>", "<", "|", ">", " ", "\n", "x", "12345"]
    text = "".join(data.draw(st.lists(st.sampled_from(marks), max_size=30)))
    assert quick.encode(text) == reference.encode(text)


def test_long_text_gives_the_same_ids(qwen: tuple[FastTokenizer, GgufTokenizer]) -> None:
    quick, reference = qwen
    text = "def f(x):\n    return x  # é 漢字\n\n\nA line.\r\n42\n <|im_end|>\n" * 3000
    assert len(text) > 5 * PIECE_CHARS
    assert quick.encode(text) == reference.encode(text)


def test_half_a_surrogate_pair_becomes_a_question_mark(qwen: tuple[FastTokenizer, GgufTokenizer]) -> None:
    quick, reference = qwen
    assert quick.encode("a\ud800b") == reference.encode("a\ud800b") == quick.encode("a?b")


def test_a_wrong_pattern_does_not_pass_the_self_test(
    qwen: tuple[FastTokenizer, GgufTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, reference = qwen
    monkeypatch.setitem(BY_GGUF_NAME, "qwen2", GPT2)
    choice = choose_for_gguf(VOCABULARIES / "qwen2.gguf", reference)
    assert choice.tokenizer is reference
    assert choice.encoder == "reference" and "other ids" in choice.reason


def test_a_vocabulary_whose_merges_tiktoken_reads_otherwise_does_not_pass(tmp_path: Path) -> None:
    """There " the" is two tokens: no merge joins the blank and the word, though a token has their bytes."""
    path = write_random_gguf(tmp_path / "m.gguf")
    reference, vocabulary = GgufTokenizer(str(path)), read_vocabulary(path)
    quick = FastTokenizer(reference, BytePairs.of_gguf(vocabulary, BY_GGUF_NAME["qwen2"]))
    assert quick.encode(" the") != reference.encode(" the")
    assert first_difference(quick, reference) is not None
    choice = choose_for_gguf(path, reference)
    assert (choice.tokenizer, choice.encoder) == (reference, "reference")


def test_a_vocabulary_written_as_tokenizer_json_gives_the_ids_of_its_file(tmp_path: Path) -> None:
    write_as_json(model_path(), tmp_path / "tokenizer.json")
    reference = GgufTokenizer(str(model_path()))
    tokenizer = encoded_by_json(tmp_path / "tokenizer.json", reference)
    text = "def f(x):\n    return x  # é 漢字 <|im_end|>\n" * 300
    assert tokenizer.encode(text) == reference.encode(text)
    assert tokenizer.special("<|im_end|>") == reference.special("<|im_end|>")


def test_a_tokenizer_json_of_another_model_is_refused(tmp_path: Path) -> None:
    write_as_json(VOCABULARIES / "qwen2.gguf", tmp_path / "tokenizer.json")
    with pytest.raises(ValueError, match=r"tokenizer\.json: it gives other ids than the model file"):
        encoded_by_json(tmp_path / "tokenizer.json", GgufTokenizer(str(model_path())))


def test_a_vocabulary_without_a_known_pattern_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(NoVocabulary, match="no pattern is known for 'deepseek-llm'"):
        write_as_json(VOCABULARIES / "deepseek-llm.gguf", tmp_path / "tokenizer.json")


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen35"])
@pytest.mark.long
def test_real_vocabularies_pass(name: str) -> None:
    path = VOCABULARIES / f"{name}.gguf"
    choice = choose_for_gguf(path, GgufTokenizer(str(path)))
    assert choice.encoder == "tiktoken", choice.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"hello, I am no model", "no GGUF file"), (b"GGUF\x03\0\0\0", "cannot be read")],
)
def test_a_file_without_a_vocabulary_says_so(content: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(NoVocabulary, match=reason):
        read_vocabulary(path)


def test_a_vocabulary_of_another_kind_is_left_to_the_reference() -> None:
    with pytest.raises(NoVocabulary, match="merges"):
        read_vocabulary(VOCABULARIES / "llama-spm.gguf")


def test_an_unknown_pre_tokenizer_is_left_to_the_reference(
    qwen: tuple[FastTokenizer, GgufTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(BY_GGUF_NAME, "qwen2")
    choice = choose_for_gguf(VOCABULARIES / "qwen2.gguf", qwen[1])
    assert choice.encoder == "reference" and "'qwen2'" in choice.reason


def test_the_corpus_is_the_same_every_time() -> None:
    pieces = [b"a", b" b", b"\xff"]
    assert list(corpus(pieces)) == list(corpus(pieces))
