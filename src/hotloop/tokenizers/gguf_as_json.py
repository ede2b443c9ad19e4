"""A GGUF file's byte-level vocabulary written as a tokenizer.json: the same ids, encoded by the tokenizers library."""

import json
from pathlib import Path
from typing import Any

from hotloop.tokenizers.gguf_vocabulary import NORMAL, NoVocabulary, read_entries
from hotloop.tokenizers.patterns import BY_GGUF_NAME


def write_as_json(gguf: Path, target: Path) -> None:
    """Write the file. Raises NoVocabulary, OSError."""
    found = read_entries(gguf)
    pattern = BY_GGUF_NAME.get(found.get("pre", "default"))
    if pattern is None:
        raise NoVocabulary(f"no pattern is known for '{found['pre']}'")
    target.write_text(json.dumps(_content(found, pattern)))


def _content(found: dict[str, Any], pattern: str) -> dict[str, Any]:
    tokens: list[str] = found["tokens"]
    kinds: list[int] = found.get("token_type") or [NORMAL] * len(tokens)
    byte_level: dict[str, Any] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": False,
        "use_regex": False,
    }
    words = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": token, "special": True, **flags}
            for index, token in enumerate(tokens)
            if kinds[index] != NORMAL
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(tokens) if kinds[index] == NORMAL},
            "merges": found["merges"],
        },
    }
