from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.fake_context import continuation
from tests.support.llama_scheduler import Host, small_pieces

from hotloop.engines.llama.grammar import ConstraintRun, GrammarError
from hotloop.engines.llama.messages import Abort
from hotloop.engines.llama.scheduler import BATCH_TOKENS
from hotloop.seams.engine import Constraint, EndReason


def test_output_is_the_models_and_only_new_tokens_are_decoded() -> None:
    host = Host()
    host.open(1)
    first = host.run(1, 0, [1, 2, 3], 4)
    assert host.ids[1] == continuation([1, 2, 3], 4)
    assert (first.reason, first.usage.held_tokens) == (EndReason.LENGTH, 6)  # the last sampled token has no KV
    decoded = host.context.decoded
    chain = [1, 2, 3, *host.ids[1]]
    second = host.run(1, 6, [chain[6], 8, 9], 4)
    assert host.ids[2] == continuation([*chain, 8, 9], 4)
    assert second.usage.cached_tokens == 6
    assert host.context.decoded - decoded == 3 + 3


def test_the_handle_knows_its_last_sampled_token_though_it_holds_no_kv_of_it() -> None:
    host = Host()
    host.open(1)
    host.run(1, 0, [1, 2, 3], 2)
    host.run(1, 5, [8], 2)
    assert host.ids[2] == continuation([1, 2, 3, *host.ids[1], 8], 2)


def test_decoding_goes_on_while_a_long_prompt_is_prefilled_in_chunks() -> None:
    host = Host(cells=5000, context_tokens=3000)
    host.open(1)
    host.open(2)
    short = host.submit(1, 0, [1, 2], 100)
    host.step()
    host.submit(2, 0, [7] * (3 * BATCH_TOKENS), 1)
    for done in range(1, 4):
        host.step()
        assert len(host.ids[short]) == done + 1
    assert host.ids[2] == []
    host.step()
    assert len(host.ids[2]) == 1


def test_an_abort_between_chunks_keeps_what_was_computed() -> None:
    host = Host(cells=5000, context_tokens=3000)
    host.open(1)
    run = host.submit(1, 0, [7] * 2000, 1)
    host.step()
    host.scheduler.receive(Abort(run))
    host.finish()
    assert (host.ended[run].reason, host.ended[run].usage.held_tokens) == (EndReason.ABORTED, BATCH_TOKENS)
    assert host.run(1, BATCH_TOKENS, [7], 1).usage.cached_tokens == BATCH_TOKENS


def test_an_abort_of_a_run_that_is_over_is_nothing() -> None:
    host = Host()
    host.open(1)
    run = host.submit(1, 0, [7], 1)
    host.finish()
    host.scheduler.receive(Abort(run))
    assert not host.scheduler.has_work


def test_what_is_held_is_told_also_when_nobody_runs() -> None:
    host = Host(context_tokens=200)
    for handle in (1, 2, 3):
        host.open(handle)
        host.run(handle, 0, [handle] * 100, 0)
    assert host.held.cells == 300
    for handle in (1, 2, 3):
        host.close(handle)
    assert host.scheduler.has_work, "closed chains may keep as much as one context"
    host.step()
    assert host.held.cells == 200
    assert not host.scheduler.has_work


def test_cells_that_chains_share_count_once_and_those_that_only_hold_the_same_twice() -> None:
    host = Host()
    for handle in (1, 2):
        host.open(handle)
    for handle in (1, 2):
        host.submit(handle, 0, [7] * 50, 1)
    host.finish()
    assert host.held.cells == 100, "they were computed side by side"
    host.open(3, [7] * 50)
    host.run(3, 50, [8] * 10, 0)
    assert host.held.cells == 110


def test_the_context_ends_a_run_when_it_is_full() -> None:
    host = Host(context_tokens=10)
    host.open(1)
    assert host.run(1, 0, [1] * 8, 50).usage.output_tokens == 2
    assert host.run(1, 0, [1] * 10, 1).reason is EndReason.LENGTH
    assert host.ids[2] == []
    assert host.run(1, 0, [1] * 10, 0).usage.held_tokens == 10


def test_without_a_free_sequence_the_least_recently_used_open_handle_is_lost_and_says_so() -> None:
    host = Host(sequences=2)
    for handle in (1, 2, 3):
        host.open(handle)
        host.run(handle, 0, [handle] * 5)
    assert host.run(1, 5, [9]).reason is EndReason.NEEDS_FULL_PROMPT
    assert host.run(2, 5, [9]).usage.cached_tokens == 5


def test_idle_chains_go_before_open_handles() -> None:
    host = Host(sequences=2)
    host.open(1)
    host.run(1, 0, [1] * 5)
    host.open(2)
    host.run(2, 0, [2] * 5)
    host.close(2)
    host.open(3)
    host.run(3, 0, [3] * 5)
    assert host.run(1, 5, [9]).usage.cached_tokens == 5


def test_more_runs_than_sequences_wait_their_turn() -> None:
    host = Host(sequences=2)
    runs: list[int] = []
    for handle in range(1, 7):
        host.open(handle)
        runs.append(host.submit(handle, 0, [handle], 5))
    host.finish()
    assert [host.ids[run] for run in runs] == [continuation([handle], 5) for handle in range(1, 7)]


def test_runs_that_fit_only_one_at_a_time_all_finish() -> None:
    host = Host(sequences=4, cells=60, context_tokens=50)
    prompts = {handle: [handle] * 20 for handle in range(1, 5)}
    for handle, prompt in prompts.items():
        host.open(handle)
        host.submit(handle, 0, prompt, 25)
    host.finish()
    assert [host.ids[run] for run in range(1, 5)] == [continuation(prompt, 25) for prompt in prompts.values()]
    assert host.context.decoded < 2 * 4 * 45  # what was preempted waits until there is room, it does not try each step


def test_a_run_that_has_a_sequence_passes_one_that_waits_for_it() -> None:
    host = Host(sequences=1)
    host.open(1)
    host.run(1, 0, [1, 2, 3])
    host.open(2)
    runs = host.submit(2, 0, [5], 2), host.submit(1, 3, [4], 2)
    host.finish()
    assert [host.ids[run] for run in runs] == [continuation([5], 2), continuation([1, 2, 3, 4], 2)]


def test_a_full_resend_takes_the_idle_chain_over() -> None:
    host = Host(sequences=2)
    history = list(range(40))
    for turn in range(5):
        host.open(turn)
        ended = host.run(turn, 0, history)
        host.close(turn)
        assert ended.usage.cached_tokens == (len(history) - 4 if turn else 0)  # the last sampled token and 3 new ones
        history += [*host.ids[host.runs], 7, 7, 7]


def test_idle_chains_are_kept_up_to_one_context_of_tokens_newest_first() -> None:
    host = Host(sequences=4, context_tokens=100)
    for handle in (1, 2, 3):
        host.open(handle)
        host.run(handle, 0, [handle] * 40, 0)
        host.close(handle)
    cached = {}
    for handle in (1, 2, 3):
        host.open(10 + handle)
        cached[handle] = host.run(10 + handle, 0, [handle] * 41, 0).usage.cached_tokens
    assert cached == {1: 0, 2: 40, 3: 40}


def test_prefixes_are_shared_within_a_tenant_only() -> None:
    host = Host()
    host.open(1, tenant="a")
    host.run(1, 0, [1, 2, 3, 4])
    host.open(2, tenant="b")
    host.open(3, tenant="a")
    assert host.run(2, 0, [1, 2, 3, 4, 5]).usage.cached_tokens == 0
    assert host.run(3, 0, [1, 2, 3, 4, 5]).usage.cached_tokens == 4


def test_a_memory_that_cannot_rewind_is_filled_again() -> None:
    host = Host(can_rewind=False)
    host.open(1)
    host.run(1, 0, [1, 2, 3], 4)
    ended = host.run(1, 2, [9], 4)
    assert host.ids[2] == continuation([1, 2, 9], 4)
    assert ended.usage.cached_tokens == 0
    host.open(2)
    host.run(2, 0, [1, 2, 9, *host.ids[2], 5], 4)
    assert host.ids[3] == continuation([1, 2, 9, *host.ids[2], 5], 4)


def test_a_run_waits_for_its_grammar_and_ends_if_there_is_none() -> None:
    host = Host()
    host.open(1)
    run = host.submit(1, 0, [1], 3, Constraint("start: x"))
    assert not host.scheduler.has_work
    host.scheduler.constraint_ready(host.compiling[0], GrammarError("no rule x"))
    host.finish()
    assert (host.ended[run].reason, host.ended[run].detail) == (EndReason.CONSTRAINT, "no rule x")


def test_a_run_aborted_while_its_grammar_compiles_ends_once() -> None:
    host = Host()
    host.open(1)
    run = host.submit(1, 0, [1], 3, Constraint("start: x"))
    host.scheduler.receive(Abort(run))
    answer: ConstraintRun | GrammarError = GrammarError("late")
    host.scheduler.constraint_ready(host.compiling[0], answer)
    host.finish()
    assert host.ended[run].reason is EndReason.ABORTED


def test_a_run_whose_grammar_compiles_gives_its_cells_to_those_that_decode() -> None:
    host = Host(cells=60, context_tokens=50)
    host.open(1)
    host.run(1, 0, [1] * 30)
    host.open(2)
    host.submit(1, 30, [9], 3, Constraint("start: x"))
    ended = host.run(2, 0, [2] * 20, 25)
    assert (ended.reason, ended.detail) == (EndReason.LENGTH, "")
    assert host.ids[host.runs] == continuation([2] * 20, 25)


def test_a_run_whose_grammar_compiles_gives_its_sequence_where_nobody_decodes() -> None:
    host = Host(sequences=1)
    host.open(1)
    host.run(1, 0, [1] * 30)
    host.open(2)
    compiling = host.submit(1, 30, [9], 3, Constraint("start: x"))
    host.run(2, 0, [2] * 20, 5)
    host.scheduler.constraint_ready(host.compiling[0], Anything())
    host.finish()
    assert host.ids[compiling] == continuation([1] * 30 + [9], 3)


@pytest.mark.parametrize("ids", [[1, 100_000], [2**32 - 1], [1] * 600 + [100_000]])
def test_a_prompt_with_a_token_that_the_model_does_not_have_ends_alone(ids: list[int]) -> None:
    host = Host(cells=2000, context_tokens=1000)
    host.open(1)
    host.open(2, ids)
    running = host.submit(1, 0, [1, 2], 20)
    host.step()
    runs = host.submit(2, len(ids), [3]), host.submit(2, 0, [3, *ids])
    host.finish()
    for run in runs:
        assert (host.ended[run].reason, host.ids[run]) == (EndReason.UNAVAILABLE, [])
    assert host.ids[running] == continuation([1, 2], 20)
    assert host.run(2, 0, [5], 2).reason is EndReason.LENGTH


def test_a_model_that_computes_no_numbers_ends_the_run_and_its_kv_is_not_used_again() -> None:
    host = Host(parked_bytes=1 << 20)
    host.open(1)
    held = host.run(1, 0, [1, 2, 3], 4).usage.held_tokens
    host.context.says_nonsense = True
    ended = host.run(1, held, [4], 4)
    assert (ended.reason, ended.usage.held_tokens) == (EndReason.UNAVAILABLE, 0)
    host.context.says_nonsense = False
    assert host.run(1, 0, [1, 2, 3], 4).usage.cached_tokens == 0
    assert host.ids[host.runs] == continuation([1, 2, 3], 4)


GENERATE = st.tuples(st.just("generate"), st.integers(0, 4), st.integers(0, 30), st.integers(0, 12))
ACTIONS = st.one_of(
    GENERATE,
    GENERATE,
    st.tuples(st.just("abort"), st.integers(0, 4), st.just(0), st.just(0)),
    st.tuples(st.just("reopen"), st.integers(0, 4), st.integers(0, 30), st.just(0)),
    st.tuples(st.just("twin"), st.integers(0, 4), st.integers(0, 4), st.integers(1, 30)),
    st.tuples(st.just("break"), st.just(0), st.just(0), st.just(0)),
    st.tuples(st.just("step"), st.integers(1, 8), st.just(0), st.just(0)),
)


class Anything(ConstraintRun):
    """Allows every token."""

    def __init__(self) -> None:
        self.stop_tokens = frozenset[int]()

    def allowed(self) -> None:
        return None

    def accept(self, token: int) -> None:
        return None


@dataclass
class Server:
    """The other side: five chains, what each was told, and what is running."""

    host: Host
    opened: int = 0
    handles: dict[int, int] = field(default_factory=dict[int, int])
    chains: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    running: dict[int, int] = field(default_factory=dict[int, int])
    prompts: dict[int, list[int]] = field(default_factory=dict[int, list[int]])

    def reopen(self, slot: int, tokens: list[int]) -> None:
        if slot in self.handles:
            self.host.close(self.handles[slot])
        self.opened += 1
        self.handles[slot], self.chains[slot] = self.opened, tokens
        self.running.pop(slot, None)
        self.host.open(self.opened, tokens)

    def generate(self, slot: int, keep: int, tokens: int) -> None:
        if slot in self.running:
            return
        keep = min(keep, len(self.chains[slot]))
        new = [tokens % 3] * (tokens + 1)
        run = self.host.submit(self.handles[slot], keep, new, tokens)
        self.running[slot] = run
        self.prompts[run] = [*self.chains[slot][:keep], *new]

    def twin(self, slot: int, other: int, tokens: int) -> None:
        """Ask what the other slot was asked, and so be told the same, a little later."""
        prompt = self.prompts[self.running[other]] if other in self.running else self.chains[other]
        if slot != other and prompt:
            self.reopen(slot, prompt)
            self.running[slot] = run = self.host.submit(self.handles[slot], len(prompt) - 1, prompt[-1:], tokens)
            self.prompts[run] = prompt

    def settle(self) -> None:
        for slot, run in list(self.running.items()):
            if run in self.host.ended:
                del self.running[slot]
                self.chains[slot] = [*self.prompts[run], *self.host.ids[run]]
                if self.host.ended[run].reason is EndReason.NEEDS_FULL_PROMPT:
                    self.reopen(slot, self.prompts[run])


@pytest.mark.parametrize("can_rewind", [True, False])
@settings(deadline=None)
@given(
    sequences=st.integers(1, 4),
    cells=st.integers(40, 70),
    parked_bytes=st.sampled_from([0, 150, 400, 1_000_000]),
    patience=st.sampled_from([0, 5, 64]),
    actions=st.lists(ACTIONS, min_size=10, max_size=60),
)
def test_whatever_happens_every_run_ends_once_with_the_models_own_output(
    can_rewind: bool,
    sequences: int,
    cells: int,
    parked_bytes: int,
    patience: int,
    actions: list[tuple[str, int, int, int]],
) -> None:
    host = Host(sequences=sequences, cells=cells, context_tokens=40, can_rewind=can_rewind, parked_bytes=parked_bytes)
    server = Server(host)
    for slot in range(5):
        server.reopen(slot, [])
    with small_pieces(patience):
        for kind, number, length, tokens in actions:
            match kind:
                case "step":
                    for _ in range(number if host.scheduler.has_work else 0):
                        host.step()
                case "break":
                    host.context.breaks_loads = not host.context.breaks_loads
                case "abort":
                    if number in server.running:
                        host.scheduler.receive(Abort(server.running[number]))
                case "reopen":
                    server.reopen(number, [token % 3 for token in range(length)])
                case "twin":
                    server.twin(number, length, tokens)
                case _:
                    server.generate(number, length, tokens)
            server.settle()
        host.finish()
    assert set(host.ended) == set(host.ids)
    assert host.scheduler.held.parked_bytes <= parked_bytes
    for run, prompt in server.prompts.items():
        assert host.ids[run] == continuation(prompt, len(host.ids[run]))
        assert host.ended[run].usage.held_tokens <= len(prompt) + len(host.ids[run])
