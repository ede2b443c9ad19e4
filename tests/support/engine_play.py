"""Runs one turn on an engine and collects what it calls back."""

import asyncio
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

from hotloop.protocol.items import Item
from hotloop.seams.engine import Constraint, EndReason, KvHandle, Run, Sampling, TokenLogprob, Usage
from hotloop.seams.prompt import CallRules, PromptContext, TurnView
from hotloop.session.item_log import ItemLog


@dataclass
class Played:
    """What a run reported."""

    steps: list[list[int]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    reason: EndReason | None = None
    usage: Usage = Usage()  # noqa: RUF009  # frozen
    detail: str = ""

    @property
    def ids(self) -> list[int]:
        return [token for step in self.steps for token in step]


def view(items: Sequence[Item], context: PromptContext | None = None, rules: CallRules | None = None) -> TurnView:
    return TurnView(ItemLog(items), (), context or PromptContext(), rules or CallRules())


class Playing:
    """One `generate` under way: `await` its `over`, or abort its `run` from `on_step`."""

    def __init__(
        self,
        handle: KvHandle,
        keep: int,
        new: Sequence[int],
        turn: TurnView,
        *,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
        abort_after: int | None = None,
    ) -> None:
        self.played = Played()
        self.over = asyncio.Event()
        self._abort_after = abort_after
        self.run: Run = handle.generate(
            keep,
            array("I", new),
            sampling=sampling or Sampling(max_tokens=10_000),
            constraint=constraint,
            turn=turn,
            on_step=self._on_step,
            on_end=self._on_end,
        )
        assert not self.played.steps and self.played.reason is None

    def _on_step(self, ids: Sequence[int], logprobs: Sequence[TokenLogprob] | None) -> None:
        assert not self.over.is_set()
        self.played.steps.append(list(ids))
        self.played.logprobs += logprobs or ()
        if self._abort_after == len(self.played.steps):
            self.run.abort()

    def _on_end(self, reason: EndReason, usage: Usage, detail: str) -> None:
        assert not self.over.is_set()
        self.played.reason, self.played.usage, self.played.detail = reason, usage, detail
        self.over.set()

    async def result(self) -> Played:
        await asyncio.wait_for(self.over.wait(), timeout=60)
        return self.played


async def play(
    handle: KvHandle,
    keep: int,
    new: Sequence[int],
    turn: TurnView,
    *,
    sampling: Sampling | None = None,
    abort_after: int | None = None,
) -> Played:
    return await Playing(handle, keep, new, turn, sampling=sampling, abort_after=abort_after).result()
