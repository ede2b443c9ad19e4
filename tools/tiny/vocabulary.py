"""The byte-level BPE: about a thousand entries, split as Qwen2 splits text.

A name must look the same wherever it stands, or copying it gets hard: `price` in `./price.py`, `test_price` and `(price`
is one and the same token. So merges are learnt on words without the character before them; a space is glued only to
words that are never names.
"""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from chatml import CONTROL_TOKENS, MARKER_TOKENS
from functions import KINDS
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from words import NOUNS, PARAMETERS

# The pattern of Qwen2's tokenizer, which llama.cpp knows as "qwen2".
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SIZE = 1024
_GLUED = 110  # words that get an entry with the space before them


def _pieces(texts: Iterable[str]) -> Iterable[str]:
    splitter = pre_tokenizers.Split(Regex(SPLIT), behavior="isolated")
    markers = re.compile("|".join(re.escape(token) for token in CONTROL_TOKENS + MARKER_TOKENS))
    for text in texts:
        for part in markers.split(text):
            for piece, _ in splitter.pre_tokenize_str(part):
                yield piece


def _name_words() -> frozenset[str]:
    names = {word for pool in PARAMETERS.values() for entry in pool for word in entry.split(",")} | set(NOUNS)
    names |= {word for kind in KINDS for verb in kind.verbs for word in verb.split("_")}
    return frozenset(names)


def train(texts: Iterable[str]) -> Tokenizer:
    """Learn the merges from training texts."""
    names = _name_words()
    bare: Counter[str] = Counter()
    glued: Counter[str] = Counter()
    for piece in _pieces(texts):
        match = re.fullmatch(r"([^A-Za-z]?)([A-Za-z]+)", piece)
        if match is None:
            bare[piece] += 1
            continue
        before, word = match.groups()
        bare[word] += 1
        if (before == " " and word not in names and len(word) > 1) or (before, word) == (".", "py"):
            glued[piece] += 1
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - len(CONTROL_TOKENS + MARKER_TOKENS) - _GLUED, initial_alphabet=alphabet, show_progress=False
    )
    # The square root keeps the constant commands from taking the entries that names need.
    learner.train_from_iterator(
        (piece for piece, count in sorted(bare.items()) for _ in range(1 + int(count**0.7))), trainer
    )
    return _with_glued(learner, glued)


def _with_glued(learner: Tokenizer, glued: Counter[str]) -> Tokenizer:
    import json

    learnt = json.loads(learner.to_str())["model"]
    vocab: dict[str, int] = learnt["vocab"]
    merges = [tuple(pair) for pair in learnt["merges"]]
    for piece, _ in sorted(glued.items(), key=lambda item: (-item[1], item[0])):
        before, word = ("Ġ" if piece[0] == " " else piece[0]), piece[1:]
        if len(vocab) == SIZE - len(CONTROL_TOKENS + MARKER_TOKENS):
            break
        if word in vocab and before + word not in vocab:
            vocab[before + word] = len(vocab)
            merges.append((before, word))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKER_TOKENS])
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a saved tokenizer."""
    return Tokenizer.from_file(str(path))
