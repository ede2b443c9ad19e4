from pathlib import Path

import pytest
from tests.support.random_gguf import TEMPLATE
from tests.support.real_templates import asset

from hotloop.engines.llama import GgufTokenizer, ModelFileError

MISSING = "no such file"
DAMAGES: dict[str, tuple[bytes | int, str]] = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello, I am no model at all", "not a GGUF file"),
    "header cut": (20, "truncated: the header is incomplete"),
    "metadata cut": (3_000, "truncated or damaged: "),
    "weights cut": (-1_000, "truncated or damaged: "),
}


def test_everything_the_server_needs_is_in_the_file(random_model: Path) -> None:
    tokenizer = GgufTokenizer(str(random_model))
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.context_tokens == 4096
    assert tokenizer.model_name == "random"
    assert tokenizer.stop_tokens == {tokenizer.special("<|im_end|>"), tokenizer.special("<|endoftext|>")}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_a_reason_of_one_line(damage: str, random_model: Path, tmp_path: Path) -> None:
    content, reason = DAMAGES[damage]
    path = tmp_path / "model.gguf"
    path.write_bytes(content if isinstance(content, bytes) else random_model.read_bytes()[:content])
    with pytest.raises(ModelFileError) as caught:
        GgufTokenizer(str(path))
    assert caught.value.path == str(path)
    assert caught.value.reason.startswith(reason)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        GgufTokenizer(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelFileError, match="not a file"):
        GgufTokenizer(str(tmp_path))


def test_a_vocabulary_that_is_not_byte_level_is_refused(random_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "wordpiece.gguf"
    path.write_bytes(random_model.read_bytes().replace(b"\x04\0\0\0\0\0\0\0gpt2", b"\x04\0\0\0\0\0\0\0bert"))
    with pytest.raises(ModelFileError, match="byte-level"):
        GgufTokenizer(str(path))


def test_a_lone_surrogate_becomes_a_question_mark(random_model: Path) -> None:
    tokenizer = GgufTokenizer(str(random_model))
    assert b"".join(map(tokenizer.piece, tokenizer.encode("a\ud800b"))) == b"a?b"


@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
def test_a_real_sentencepiece_vocabulary_is_refused(name: str) -> None:
    with pytest.raises(ModelFileError, match="not byte-level BPE"):
        GgufTokenizer(str(asset(f"vocabularies/{name}.gguf")))
