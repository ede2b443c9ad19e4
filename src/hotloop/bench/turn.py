"""`hotloop bench turn`: what a turn costs the server against the length of its history.

WebSocket and HTTP, each with `previous_response_id` and with a full resend, each with our caches on and off, against a bare
round trip (`bench.arms`). One server process per tokenizer, length of history and state of the caches, so that none pays for
another's memory; all arms interleaved.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hotloop.bench.arms import (
    Conversation,
    Sample,
    Scale,
    check_continued,
    check_tokens,
    measure_scale,
    round_trips,
)
from hotloop.bench.clients import Connection
from hotloop.bench.cpu import pinned, split_cores
from hotloop.bench.floor_server import FRAME, request_bytes
from hotloop.bench.report import Findings
from hotloop.bench.rounds import interleave
from hotloop.bench.scripts import write_script
from hotloop.bench.servers import SERVE, RunningServer, floor_server, hotloop_server
from hotloop.bench.turn_plan import RAW, Arm, Plan
from hotloop.bench.turn_result import Taken, findings_of
from hotloop.bench.vocabularies import DEMONSTRATION, Vocabularies, load_both

TITLE = "hotloop bench turn: what a turn costs the server against the length of its history"
_RAW_TURNS = 200
_COLD_TOKENS = 10_000  # an arm that renders in full does about this many tokens a round, in one turn or several


def measure(plan: Plan, given: Vocabularies = DEMONSTRATION) -> Findings:
    """Run the plan. Raises BenchError."""
    with ExitStack() as stack:
        server_core, client_core = split_cores()
        folder = Path(stack.enter_context(TemporaryDirectory()))
        script = folder / "script.json"
        write_script(script)
        vocabularies = load_both(given, folder)
        raw = stack.enter_context(floor_server("raw", server_core))
        servers = {
            key: stack.enter_context(
                hotloop_server(script, server_core, [*SERVE, *vocabularies[key[0]].flags], caches=key[2])
            )
            for key in dict.fromkeys(map(_server_of, plan.arms()))
        }
        stack.enter_context(pinned(client_core))
        link = stack.enter_context(Connection(raw.host, raw.port))
        arms: dict[Arm, Callable[[], Sample]] = {
            RAW: partial(round_trips, raw.pid, link, request_bytes("T", 1), len(FRAME), _RAW_TURNS)
        }
        scales: dict[tuple[str, str], Scale] = {}
        conversations: list[Conversation] = []
        for arm in plan.arms():
            if (spoken := (arm.tokenizer, arm.answer)) not in scales:
                scales[spoken] = _scale(servers[_server_of(arm)], arm.answer)
            conversation, turns = _conversation(arm, servers[_server_of(arm)], scales[spoken], plan)
            conversations.append(stack.enter_context(closing(conversation)))
            arms[arm] = partial(_sample, conversations, conversation, turns)
        for sample in arms.values():
            sample()  # warm-up: lazy imports, caches
        samples = interleave(arms, plan.rounds)
    _check(samples)
    return findings_of(plan, Taken(samples, {encoder: one.name for encoder, one in vocabularies.items()}))


def _server_of(arm: Arm) -> tuple[str, int, str]:
    return arm.tokenizer, arm.tokens, arm.way.caches


def _conversation(arm: Arm, server: RunningServer, scale: Scale, plan: Plan) -> tuple[Conversation, int]:
    """What an arm asks, and how many turns of it make a round."""
    is_cold = arm.way.caches == "off"
    turns = max(1, _COLD_TOKENS // arm.tokens) if is_cold else plan.turns
    conversation = Conversation(
        server,
        arm.answer,
        transport="http" if arm.way.transport == "http" else "websocket",
        mode="resend" if arm.way.mode == "resend" else "previous",
        warm_ups=1 if is_cold else 2,
    )
    conversation.keep_at(arm.tokens, scale, turns * plan.rounds)
    return conversation, turns


def _sample(all_of_them: Sequence[Conversation], one: Conversation, turns: int) -> Sample:
    """One round of an arm; the others' connections are kept alive first."""
    for conversation in all_of_them:
        conversation.attend()
    return one.sample(turns)


def _check(samples: Mapping[Arm, Sequence[Sample]]) -> None:
    for arm, taken in samples.items():
        if arm != RAW:
            check_tokens(arm.name, arm.tokens, taken)
        if (arm.way.mode, arm.way.caches) == ("previous", "on"):
            check_continued(arm.name, taken)


def _scale(server: RunningServer, answer: str) -> Scale:
    with closing(Conversation(server, answer)) as probe:
        return measure_scale(probe)
