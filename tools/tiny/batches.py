"""Batches of token ids with a weight for each, made in a process beside the training.

A batch is a function of the seed and of how far the training is. Conversations that begin with the agent's preamble share
it as prefix; all others start at nothing. Rows of a batch are of similar length, so that little is padding.
"""

import multiprocessing
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import vocabulary
from chatml import Conversation, render
from drills import drill
from lessons import lesson
from numpy.typing import NDArray
from repairs import PREAMBLE
from tokenizers import Tokenizer

POOL = 96  # conversations from which batches of like length are cut


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of ids and, for each place, how much predicting it counts; `has_prefix`: the rows follow the preamble."""

    ids: NDArray[np.int64]
    weights: NDArray[np.float32]
    has_prefix: bool


class Encoder:
    """Turns conversations into ids and marks what the agent writes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._start = tokenizer.token_to_id("<|im_start|>")
        self._end = tokenizer.token_to_id("<|im_end|>")
        self._assistant = tokenizer.token_to_id("assistant")
        assert self._assistant is not None, "the vocabulary lacks a token for the word assistant"

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self._tokenizer.encode(text).ids
        return ids

    def drill(self, given: str, wanted: str) -> tuple[list[int], list[float]]:
        """Ids and weights of an exercise in copying."""
        first, second = self.encode(given), self.encode(wanted)
        return first + second, [0.1] * len(first) + [1.0] * len(second)

    def conversation(self, conversation: Conversation, other_weight: float) -> tuple[list[int], list[float]]:
        """Ids and weights: 1 where the agent writes, 0 in its slips and in the preamble, `other_weight` elsewhere."""
        before = self.encode(conversation.preamble) if conversation.preamble else []
        ids = self.encode(render(Conversation("", conversation.messages)))
        weights = [other_weight] * len(ids)
        learn = iter([message.learn for message in conversation.messages if message.role == "assistant"])
        place = 0
        while place < len(ids):
            if ids[place] == self._start and ids[place + 1] == self._assistant:
                stop = ids.index(self._end, place)
                value = 1.0 if next(learn) else 0.0
                weights[place + 3 : stop + 1] = [value] * (stop - place - 2)
                place = stop
            place += 1
        return before + ids, [0.0] * len(before) + weights


def pool(encoder: Encoder, seed: int, number: int, progress: float, tokens: int) -> list[Batch]:
    """Cut one pool of conversations into batches of about `tokens` ids."""
    other_weight = 0.1 if progress < 0.4 else 0.0  # what others write teaches to copy before the agent can
    skip = len(encoder.encode(PREAMBLE))
    shared: list[tuple[list[int], list[float]]] = []
    alone: list[tuple[list[int], list[float]]] = []
    for place in range(POOL):
        made = lesson(seed, number * POOL + place, progress)
        ids, weights = encoder.conversation(made, other_weight)
        if made.preamble == PREAMBLE:
            shared.append((ids[skip:], weights[skip:]))
        else:
            alone.append((ids, weights))
    rng = random.Random(f"{seed}-{number}-drills")
    drills = [encoder.drill(*drill(rng)) for _ in range(int(POOL * _drill_share(progress)))]
    batches = _cut(shared, tokens, True) + _cut(alone, tokens, False) + _cut(drills, tokens, False)
    random.Random(f"{seed}-{number}-order").shuffle(batches)
    return batches


def _drill_share(progress: float) -> float:
    """Exercises per conversation."""
    return 3.0 if progress < 0.33 else 1.3 if progress < 0.92 else 0.4


def _cut(rows: list[tuple[list[int], list[float]]], tokens: int, has_prefix: bool) -> list[Batch]:
    rows = sorted(rows, key=lambda row: len(row[0]))
    batches: list[Batch] = []
    while rows:
        count = next((size for size in range(1, len(rows)) if (size + 1) * len(rows[size][0]) > tokens), len(rows))
        batches.append(_pad(rows[:count], has_prefix))
        rows = rows[count:]
    return batches


def _pad(rows: list[tuple[list[int], list[float]]], has_prefix: bool) -> Batch:
    length = max(len(ids) for ids, _ in rows)
    ids = np.zeros((len(rows), length), np.int64)
    weights = np.zeros((len(rows), length), np.float32)
    for number, (row, row_weights) in enumerate(rows):
        ids[number, : len(row)] = row
        weights[number, : len(row)] = row_weights
    return Batch(ids, weights, has_prefix)


class Feed:
    """Pools made ahead by another process; `progress` tells it how far the training is."""

    def __init__(self, tokenizer: Path, seed: int, first_pool: int, tokens: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._progress = context.Value("d", 0.0)
        self._queue: multiprocessing.Queue[list[Batch]] = context.Queue(maxsize=3)
        self._process = context.Process(
            target=_produce, args=(str(tokenizer), seed, first_pool, tokens, self._progress, self._queue), daemon=True
        )
        self._process.start()

    def pools(self) -> Iterator[list[Batch]]:
        """Endless."""
        while True:
            yield self._queue.get()

    def tell(self, progress: float) -> None:
        """Say how far the training is."""
        self._progress.value = progress

    def close(self) -> None:
        """Stop the other process."""
        self._process.terminate()


def _produce(tokenizer, seed, number, tokens, progress, queue) -> None:  # type: ignore[no-untyped-def]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    encoder = Encoder(vocabulary.load(Path(tokenizer)))
    while True:
        queue.put(pool(encoder, seed, number, progress.value, tokens))
        number += 1
