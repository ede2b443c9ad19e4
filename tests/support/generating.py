"""Drives a KV handle in tests: one call, one outcome."""

import asyncio
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hotloop.seams.engine import Constraint, EndReason, KvHandle, Run, Sampling, TokenLogprob, Usage
from hotloop.seams.prompt import CallRules, PromptContext, TurnView
from hotloop.session.item_log import ItemLog

NO_TURN = TurnView(ItemLog(), (), PromptContext(), CallRules())
TIE = 0.01  # of log-probability
TIMEOUT_S = 30.0  # far over anything expected, so that a lost callback fails instead of hanging


@dataclass
class Outcome:
    """Everything a run called back with."""

    calls: list[str] = field(default_factory=list[str])
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[TokenLogprob] = field(default_factory=list[TokenLogprob])
    reason: EndReason | None = None
    usage: Usage = field(default_factory=Usage)
    detail: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def on_end(self, reason: EndReason, usage: Usage, detail: str) -> None:
        self.calls.append("end")
        self.reason, self.usage, self.detail = reason, usage, detail
        self.ended.set()


def greedy(max_tokens: int, stop: Sequence[int] = (), top_logprobs: int | None = None) -> Sampling:
    return Sampling(max_tokens=max_tokens, temperature=0.0, stop_tokens=frozenset(stop), top_logprobs=top_logprobs)


def assert_same_greedy(reference: Outcome, other: Outcome) -> None:
    """Both sampled the same, up to a place where the best two tokens are as good as equal.

    The same tokens computed in batches of another shape differ in the last bits, which decides such a tie. `reference`
    must come with `top_logprobs` of 2 or more.
    """
    for index, (expected, found) in enumerate(zip(reference.ids, other.ids, strict=True)):
        if expected != found:
            (_, best), (second, next_best) = reference.logprobs[index].top[:2]
            assert best - next_best < TIE, f"token {index} is {found}, not {expected}"
            assert second == found
            return


def begin(
    handle: KvHandle,
    keep: int,
    new: Sequence[int],
    sampling: Sampling,
    *,
    constraint: Constraint | None = None,
    turn: TurnView = NO_TURN,
    on_step: Callable[[], None] = lambda: None,
) -> tuple[Run, Outcome]:
    """Start a run; `outcome.ended` is set at its end."""
    outcome = Outcome()

    def step(ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> None:
        outcome.calls.append("step")
        outcome.ids.extend(ids)
        outcome.logprobs.extend(logprobs or ())
        on_step()

    run = handle.generate(
        keep, array("I", new), sampling=sampling, constraint=constraint, turn=turn, on_step=step, on_end=outcome.on_end
    )
    return run, outcome


async def finished(outcome: Outcome) -> Outcome:
    await asyncio.wait_for(outcome.ended.wait(), TIMEOUT_S)
    return outcome


async def generate(
    handle: KvHandle,
    keep: int,
    new: Sequence[int],
    sampling: Sampling,
    *,
    constraint: Constraint | None = None,
    turn: TurnView = NO_TURN,
) -> Outcome:
    """Run to the end."""
    _, outcome = begin(handle, keep, new, sampling, constraint=constraint, turn=turn)
    return await finished(outcome)
