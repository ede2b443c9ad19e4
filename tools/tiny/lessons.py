"""The mix: which conversation stands at which place of the training, a function of the seed and the place alone."""

import random

import repairs
import smalltalk
from agent_contract import contract
from building import build
from chatml import Conversation, preamble
from words import Names


def lesson(seed: int, number: int, progress: float) -> Conversation:
    """Write one training conversation.

    Args:
        progress: how far the training is, 0 to 1; the first fifth moves from one-function projects to all.
    """
    rng = random.Random(f"{seed}-{number}")
    roll = rng.random()
    if roll < 0.13:
        return smalltalk.conversation(rng)
    if roll < 0.16:
        return smalltalk.function_use(rng, Names(rng, held_out=False))
    easy = rng.random() > progress * 5
    repository = build(
        rng,
        held_out=False,
        bugs=1 if easy else None,
        functions=rng.choice((1, 2)) if easy else None,
        ambiguous=not easy and rng.random() < 0.12,
        simple=easy,
    )
    prompt = repairs.PREAMBLE
    if rng.random() < 0.04:
        instructions = rng.choice(
            (None, "You are a coding agent.", "You are a helpful assistant.", "Fix what you are asked to fix.")
        )
        prompt = preamble(instructions, contract.TOOLS)
    if rng.random() < 0.02:
        return repairs.dead_end(rng, repository, prompt)
    return repairs.conversation(rng, repository, prompt)
