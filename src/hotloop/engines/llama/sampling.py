"""Picks a token from logits. Pure numpy: one call per sequence and step, no state but the run's own.

The order is penalties, allowed tokens, temperature, top_p. Log-probabilities are the model's own, before all of these.
"""

import numpy as np
from numpy.random import default_rng  # loaded here, not lazily in the first run
from numpy.typing import NDArray

from hotloop.engines.llama.faults import LogitsError
from hotloop.seams.engine import Sampling, TokenLogprob

# Where tokens at least this likely, against the best, already reach top_p, only they are sorted: dozens of a real model's
# vocabulary. A flatter distribution is drawn from without sorting.
_HEAVY = 1e-3
# Of temperature. As a 32-bit float a smaller one would soon be 0; no token but the best has a chance long before that.
_GREEDY_BELOW = 1e-6
_BLOCK = 1024  # numpy cumulates a vocabulary of 150k in 2 ms, block sums and one block in 0.1 ms


class Sampler:
    """The random stream and penalty counts of one run."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = default_rng(
            None if sampling.seed is None else sampling.seed % 2**64
        )  # numpy takes no negative one
        self._counts: dict[int, int] = {}
        self._penalised = bool(sampling.presence_penalty or sampling.frequency_penalty)

    def pick(self, logits: NDArray[np.float32], allowed: NDArray[np.intp] | None) -> tuple[int, TokenLogprob | None]:
        """The next token, one of `allowed` (None: any), with its log-probability if the run asked for it.

        Raises LogitsError.
        """
        scores = self._penalise(logits) if self._counts else logits
        token = self._choose(scores) if allowed is None else int(allowed[self._choose(scores[allowed])])
        if self._penalised:
            self._counts[token] = self._counts.get(token, 0) + 1
        top = self._sampling.top_logprobs
        return token, None if top is None else _logprob(logits, token, top)

    def _penalise(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        scores = logits.copy()
        tokens = np.fromiter(self._counts.keys(), np.intp, len(self._counts))
        counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
        scores[tokens] -= self._sampling.presence_penalty + self._sampling.frequency_penalty * counts
        return scores

    def _choose(self, scores: NDArray[np.float32]) -> int:
        best = int(scores.argmax())
        if not np.isfinite(scores[best]):  # also where any other is none: that one would be found
            raise LogitsError("the model computed no numbers for the next token")
        if self._sampling.temperature < _GREEDY_BELOW:
            return best
        weights = (scores - scores[best]) / np.float32(self._sampling.temperature)
        np.exp(weights, out=weights)
        if self._sampling.top_p >= 1.0:
            return self._draw(weights)
        target = self._sampling.top_p * float(weights.sum())
        heavy = np.flatnonzero(weights >= _HEAVY)  # the heaviest weight is 1
        if float(weights[heavy].sum()) >= target:
            nucleus = _nucleus(weights, heavy, target)
            return int(nucleus[self._draw(weights[nucleus])])
        return self._draw_until_inside(weights, target)

    def _draw_until_inside(self, weights: NDArray[np.float32], target: float) -> int:
        """Rejection sampling: a token is in the nucleus if all heavier ones together stay below `target`.

        A draw is inside with a probability of at least top_p; this path is never taken for a small one with a real model.
        """
        while True:
            index = self._draw(weights)
            if float(weights[weights > weights[index]].sum()) < target:
                return index

    def _draw(self, weights: NDArray[np.float32]) -> int:
        """An index with probability proportional to its weight: first the block, then the token in it."""
        whole = len(weights) // _BLOCK * _BLOCK
        blocks = np.append(weights[:whole].reshape(-1, _BLOCK).sum(axis=1), weights[whole:].sum())
        block = self._at(blocks)
        return block * _BLOCK + self._at(weights[block * _BLOCK : (block + 1) * _BLOCK])

    def _at(self, weights: NDArray[np.float32]) -> int:
        cumulated: NDArray[np.float64] = np.cumsum(weights, dtype=np.float64)
        index = int(cumulated.searchsorted(self._random.random() * float(cumulated[-1]), side="right"))
        last = int(cumulated.searchsorted(float(cumulated[-1])))
        return min(index, last)  # rounding must not land behind the last weight


def _nucleus(weights: NDArray[np.float32], heavy: NDArray[np.intp], target: float) -> NDArray[np.intp]:
    """The fewest heaviest tokens of `heavy` whose weights add up to `target`; always at least one."""
    order = heavy[np.argsort(-weights[heavy], kind="stable")]
    cumulated: NDArray[np.float64] = np.cumsum(weights[order], dtype=np.float64)
    return order[: int(cumulated.searchsorted(target)) + 1]


def _logprob(logits: NDArray[np.float32], token: int, top: int) -> TokenLogprob:
    peak = logits.max()
    total = float(peak) + float(np.log(np.exp(logits - peak).sum()))
    best: NDArray[np.intp] = np.empty(0, np.intp)
    if top > 0:
        best = np.argpartition(logits, -top)[-top:] if top < len(logits) else np.arange(len(logits))
        best = best[np.argsort(-logits[best], kind="stable")]
    return TokenLogprob(token, float(logits[token]) - total, tuple((int(t), float(logits[t]) - total) for t in best))
