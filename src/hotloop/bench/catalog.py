"""The benches there are, for the command line."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass

from hotloop.bench import (
    chain,
    floor,
    load,
    peers,
    render,
    rollout,
    rollout_plan,
    rollout_result,
    stall,
    turn,
    turn_plan,
    turn_result,
)
from hotloop.bench.goals import Goal
from hotloop.bench.report import Findings
from hotloop.bench.vocabularies import add_options as add_vocabulary_options
from hotloop.bench.vocabularies import vocabularies_of


@dataclass(frozen=True, slots=True)
class Bench:
    """One bench: `full` and `quick` measure, `goals` are what it declares, `add_options` are its own."""

    name: str
    title: str
    takes: str  # in full, on an idle machine
    goals: tuple[Goal, ...]
    full: Callable[[Namespace], Findings]
    quick: Callable[[Namespace], Findings]
    add_options: Callable[[ArgumentParser], None] = lambda parser: None


BENCHES = (
    Bench(
        "turn",
        turn.TITLE,
        "some 4 minutes",
        turn_result.GOALS,
        lambda given: turn.measure(turn_plan.FULL, vocabularies_of(given)),
        lambda given: turn.measure(turn_plan.QUICK, vocabularies_of(given)),
        add_vocabulary_options,
    ),
    Bench(
        "chain",
        chain.TITLE,
        "half a minute",
        chain.GOALS,
        lambda _: chain.measure(chain.FULL),
        lambda _: chain.measure(chain.QUICK),
    ),
    Bench(
        "floor",
        floor.TITLE,
        "half a minute",
        floor.GOALS,
        lambda _: floor.measure(floor.FULL),
        lambda _: floor.measure(floor.QUICK),
    ),
    Bench(
        "render",
        render.TITLE,
        "2 minutes",
        render.GOALS,
        lambda given: render.measure(render.FULL, given.tokenizer),
        lambda given: render.measure(render.QUICK, given.tokenizer),
        render.add_options,
    ),
    Bench(
        "rollout",
        rollout.TITLE,
        "some 12 minutes",
        rollout_result.GOALS,
        lambda given: rollout.measure(rollout_plan.FULL, vocabularies_of(given)),
        lambda given: rollout.measure(rollout_plan.QUICK, vocabularies_of(given)),
        add_vocabulary_options,
    ),
    Bench(
        "load",
        load.TITLE,
        "3 minutes",
        load.GOALS,
        lambda _: load.measure(load.FULL),
        lambda _: load.measure(load.QUICK),
    ),
    Bench(
        "stall",
        stall.TITLE,
        "some 7 minutes",
        (),
        lambda _: stall.measure(stall.FULL),
        lambda _: stall.measure(stall.QUICK),
    ),
    Bench(
        "peers",
        peers.TITLE,
        "a minute and more",
        (),
        lambda given: peers.measure(peers.FULL, peers.targets_of(given)),
        lambda given: peers.measure(peers.QUICK, peers.targets_of(given)),
        peers.add_options,
    ),
)
