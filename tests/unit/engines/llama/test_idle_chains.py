"""Chains that idle: what they cost the others, where their KV goes, and how it comes back."""

from collections.abc import Callable

import pytest
from tests.support.fake_context import continuation
from tests.support.llama_scheduler import Host, small_pieces

from hotloop.engines.llama import chains
from hotloop.engines.llama.messages import Abort
from hotloop.engines.llama.parking import PIECE_TOKENS
from hotloop.seams.engine import EndReason

MUCH = 1 << 30  # bytes


def with_idle_chains(count: int, parked_bytes: int) -> Host:
    """A chain of 500 tokens, and others of 1,000 that were played before it."""
    host = Host(sequences=count + 2, cells=1000 * count + 4000, context_tokens=4000, parked_bytes=parked_bytes)
    for handle in range(1, count + 1):
        host.open(handle)
        host.run(handle, 0, [handle] * 1000, 1)
    host.open(100)
    host.run(100, 0, [50] * 500, 100)
    return host


def test_the_more_idle_chains_cost_the_sooner_they_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "MOVE_COST", 8)  # else it takes 70 chains to show it
    most: dict[int, int] = {}
    for count in (2, 12):
        host = Host(sequences=20, cells=20_000, context_tokens=4000, parked_bytes=MUCH)
        for handle in range(count):
            host.open(handle)
            host.submit(handle, 0, [handle] * 1000, 300)
        while not all(host.ids.values()):
            host.step()
        for run in host.ids:
            host.scheduler.receive(Abort(run))
        host.open(1000)
        run = host.submit(1000, 0, [200], 250)
        most[count] = 0
        while host.context.range > 1000 and run not in host.ended:
            before = host.held.copies
            host.step()
            most[count] = max(most[count], host.held.copies - before)
        assert run not in host.ended
    assert most[2] == 1
    assert 2 <= most[12] <= chains.AT_ONCE_TOKENS // PIECE_TOKENS


def next_turn(host: Host, handle: int, held: int, new: int, max_tokens: int) -> int:
    """Cells visited for a turn of the chain."""
    before = host.context.visited
    host.run(handle, held, [7] * new, max_tokens)
    return host.context.visited - before


def test_a_turn_costs_the_same_however_many_chains_idle() -> None:
    alone, among = (next_turn(with_idle_chains(count, MUCH), 100, 599, 20, 100) for count in (0, 16))
    assert among < 1.1 * alone
    assert next_turn(with_idle_chains(16, 0), 100, 599, 20, 100) > 10 * alone


def test_a_parked_chain_goes_on_without_decoding_anything_again() -> None:
    host = with_idle_chains(8, MUCH)
    decoded = host.context.decoded
    ended = host.run(3, 1000, [9] * 5, 4)
    assert host.ids[host.runs] == continuation([3] * 1000 + [9] * 5, 4)
    assert (ended.usage.cached_tokens, ended.usage.restored_tokens, ended.usage.held_tokens) == (1000, 1000, 1008)
    assert host.context.decoded - decoded == 5 + 3
    assert host.run(3, 1008, [2], 1).usage.restored_tokens == 0, "it is in the cache now"


def test_a_parked_chain_can_be_rewound() -> None:
    host = with_idle_chains(8, MUCH)
    ended = host.run(3, 700, [9], 4)
    assert host.ids[host.runs] == continuation([3] * 700 + [9], 4)
    assert (ended.usage.cached_tokens, ended.usage.restored_tokens) == (700, 700)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param(lambda: Host(sequences=2, parked_bytes=MUCH), id="more handles than sequences"),
        pytest.param(
            lambda: Host(sequences=8, cells=200, context_tokens=100, parked_bytes=MUCH), id="more tokens than cells"
        ),
    ],
)
def test_more_than_the_cache_has_room_for_loses_nothing(host: Callable[[], Host]) -> None:
    full = host()
    for handle in range(1, 8):
        full.open(handle)
        full.run(handle, 0, [handle] * 50, 1)
    for handle in range(1, 8):
        assert full.run(handle, 50, [9], 1).usage.cached_tokens == 50


def test_where_memory_ends_the_chain_that_was_parked_first_is_lost_and_says_so() -> None:
    host = Host(sequences=1, parked_bytes=600)  # 50 tokens are 204 bytes
    for handle in range(1, 5):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    assert host.scheduler.held.parked_bytes <= 600
    assert host.run(1, 50, [9], 1).reason is EndReason.NEEDS_FULL_PROMPT
    assert host.run(3, 50, [9], 1).usage.restored_tokens == 50


def test_a_copy_that_cannot_be_brought_back_is_decoded_again() -> None:
    host = with_idle_chains(8, MUCH)
    host.context.breaks_loads = True
    ended = host.run(3, 1000, [9], 4)
    assert host.ids[host.runs] == continuation([3] * 1000 + [9], 4)
    assert (ended.usage.cached_tokens, ended.usage.restored_tokens) == (0, 0)


def test_a_fork_of_a_parked_chain_begins_with_its_kv() -> None:
    host = with_idle_chains(8, MUCH)
    size = host.scheduler.held.parked_bytes
    host.open(200, [3] * 900)
    assert host.run(200, 900, [9], 1).usage.restored_tokens == 900
    assert host.run(3, 1000, [9], 1).usage.cached_tokens == 1000
    host.open(300)
    host.run(300, 0, [5] * 30, 200)
    assert host.scheduler.held.parked_bytes < 1.3 * size, "what chains have in common takes memory once"


def test_a_beginning_that_many_chains_share_is_copied_once_and_does_not_drive_anyone_out() -> None:
    host = Host(sequences=12, cells=20_000, context_tokens=4000, parked_bytes=MUCH)
    prompt = list(range(1024))
    for handle in range(1, 11):
        host.open(handle)
        host.run(handle, 0, [*prompt, handle], 20)
    host.open(100)
    host.run(100, 0, [*prompt, 5], 500)
    assert host.context.loaded == 0, "the others have 20 cells each that are theirs alone"
    assert host.scheduler.held.parked_bytes < 4 * (1024 + 10 * 300)
    for handle in range(1, 11):
        assert host.run(handle, 1044, [9], 1).usage.cached_tokens == 1044


def test_closed_chains_stay_parked_up_to_a_number() -> None:
    host = Host(sequences=1, cells=2000, parked_bytes=MUCH)

    def play_and_close(handle: int, tokens: list[int]) -> int:
        host.open(handle)
        cached = host.run(handle, 0, tokens, 0).usage.cached_tokens
        host.close(handle)
        return cached

    few, many = 200, chains.MAX_CLOSED + 50
    for handle in range(few):
        play_and_close(handle, [handle, 1, 2])
    assert play_and_close(1000, [0, 1, 2, 9]) == 3
    for handle in range(few, many):
        play_and_close(handle, [handle, 1, 2])
    assert play_and_close(1001, [many - 2, 1, 2, 9]) == 3
    assert play_and_close(1002, [5, 1, 2, 9]) == 0


def test_a_resent_history_takes_the_parked_chain_of_a_closed_handle_over() -> None:
    host = with_idle_chains(8, MUCH)
    host.close(3)
    host.open(200)
    assert host.run(200, 0, [3] * 1000 + [9], 1).usage.restored_tokens == 1000


def test_chains_that_run_side_by_side_go_on_through_a_sweep() -> None:
    host = Host(sequences=8, cells=8000, context_tokens=2000, parked_bytes=MUCH)
    for handle in range(1, 6):
        host.open(handle)
        host.run(handle, 0, [handle] * 1000, 1)
    runs = {handle: host.submit(handle, 1000, [9], 400) for handle in (2, 5)}
    host.finish()
    for handle, run in runs.items():
        assert host.ids[run] == continuation([handle] * 1000 + [9], 400)
    assert host.context.range < 3000, "five chains were left where two run"
    assert host.context.decoded == 5 * 1000 + 2 * 400


def test_a_chain_that_says_what_another_one_said_before_it_goes_on_through_a_sweep() -> None:
    host = Host(sequences=8, cells=8000, context_tokens=2000, parked_bytes=MUCH)
    for handle in range(1, 4):
        host.open(handle)
        host.run(handle, 0, [handle] * 1000, 1)
    runs: list[int] = []
    for handle in (10, 11):  # the second one samples what the first one holds already
        host.open(handle)
        runs.append(host.submit(handle, 0, [5] * 50, 400))
        host.step()
    host.finish()
    assert host.context.range < 2000, "nothing was swept"
    for run in runs:
        assert host.ids[run] == continuation([5] * 50, 400)


def test_a_parked_chain_waits_for_room_instead_of_being_decoded_again() -> None:
    host = Host(sequences=4, cells=300, context_tokens=250, parked_bytes=MUCH)
    for handle in (1, 2, 3):  # two of them fit
        host.open(handle)
        host.run(handle, 0, [handle] * 120, 1)
    runs = {handle: host.submit(handle, 120, [9], 20) for handle in (2, 3, 1)}
    host.finish()
    for handle, run in runs.items():
        assert host.ids[run] == continuation([handle] * 120 + [9], 20)
        assert host.ended[run].usage.cached_tokens == 120
    assert host.context.decoded == 3 * 120 + 3 * 20


def test_a_chain_that_was_rewound_is_parked_as_it_is_now() -> None:
    host = Host(sequences=1, parked_bytes=MUCH)
    host.open(1)
    host.open(2)
    chain = [1] * 50
    host.run(1, 0, chain, 1)
    for keep in (50, 30, 20):
        host.run(2, 0, [2] * 5, 1)  # takes the sequence
        chain = [*chain[:keep], 7, keep]
        host.run(1, keep, chain[keep:], 1)
    host.run(2, 0, [2] * 5, 1)
    host.run(1, 22, [9], 4)
    assert host.ids[host.runs] == continuation([*chain, 9], 4)


def test_parked_kv_is_shared_within_a_tenant_only() -> None:
    host = Host(sequences=1, parked_bytes=MUCH)
    for handle, tenant in ((1, "a"), (2, "b")):
        host.open(handle, tenant=tenant)
        host.run(handle, 0, [5] * 50, 1)  # the first one is parked by this
    host.open(3, tenant="b")
    host.open(4, tenant="c")
    assert host.run(4, 0, [5] * 60, 1).usage.cached_tokens == 0
    assert host.run(3, 0, [5] * 60, 1).usage.cached_tokens == 50


def test_where_memory_ends_closed_chains_go_before_open_ones() -> None:
    host = Host(sequences=1, parked_bytes=600)  # 50 tokens are 204 bytes
    for handle in (1, 2, 3):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    host.close(2)
    host.open(4)
    host.run(4, 0, [4] * 50, 1)
    assert host.run(1, 50, [9], 1).usage.restored_tokens == 50


def test_where_memory_ends_copies_of_what_is_in_the_cache_go_first() -> None:
    host = Host(sequences=2, parked_bytes=500)  # 50 tokens are 204 bytes
    for handle in (1, 2, 3):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    host.run(1, 50, [9], 1)  # 2 is parked; 1 is back, and its copy is kept
    host.open(4)
    host.run(4, 0, [4] * 50, 1)  # 3 is parked
    assert host.run(2, 50, [9], 1).usage.restored_tokens == 50
    assert host.scheduler.held.parked_bytes <= 500


def test_an_abort_while_a_parked_chain_waits_leaves_it_what_it_has() -> None:
    host = Host(sequences=1, parked_bytes=MUCH)
    for handle in (1, 2):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    host.submit(2, 50, [9], 20)
    host.step()
    waiting = host.submit(1, 50, [9], 20)
    host.step()
    host.scheduler.receive(Abort(waiting))
    host.finish()
    assert host.ended[waiting].usage.held_tokens == 50
    assert host.run(1, 50, [8], 1).usage.restored_tokens == 50


def test_chains_that_take_turns_are_brought_back_once_a_turn() -> None:
    host = Host(sequences=10, cells=20_000, context_tokens=8000, parked_bytes=MUCH)
    held = dict.fromkeys(range(1, 7), 0)
    for handle in held:
        host.open(handle)
    for handle in held:
        held[handle] = host.run(handle, 0, [handle] * 1000, 100).usage.held_tokens
    restored, loaded = 0, host.context.loaded
    for _ in range(3):
        for handle in held:
            ended = host.run(handle, held[handle], [handle] * 50, 100)
            restored += ended.usage.restored_tokens
            held[handle] = ended.usage.held_tokens
            assert host.context.lies_in_order(), "attention adds up in the order of cells"
    assert restored > 3 * 6 * 1000
    assert host.context.loaded - loaded < 1.1 * restored


def test_a_fork_that_comes_back_beside_its_running_parent_lies_in_order() -> None:
    host = Host(sequences=4, cells=5000, context_tokens=2000, parked_bytes=MUCH)
    host.open(1)
    host.run(1, 0, [1] * 400, 1)
    host.open(2, [1] * 400)
    host.run(2, 400, [2] * 200, 1)
    for handle in (3, 4, 5):
        host.open(handle)
        host.run(handle, 0, [handle] * 400, 150)
    run = host.submit(1, 400, [9], 300)
    host.step()
    assert host.run(2, 600, [8], 100).usage.cached_tokens == 600
    assert host.ids[host.runs] == continuation([1] * 400 + [2] * 200 + [8], 100)
    assert host.ids[run] == continuation([1] * 400 + [9], 300)
    assert host.context.lies_in_order()


def test_few_cells_that_idle_are_left_alone_also_where_several_chains_share_them() -> None:
    host = Host(sequences=6, cells=5000, context_tokens=2000, parked_bytes=MUCH)
    for handle in (1, 2, 3):
        host.open(handle)
        host.run(handle, 0, [*range(200), handle], 10)
    host.open(9)
    host.run(9, 0, [9] * 100, 1500)
    assert host.context.loaded == 0, "they are 230 cells together"


def test_a_history_that_is_resent_takes_memory_once() -> None:
    host = Host(sequences=4, cells=5000, context_tokens=2000, parked_bytes=MUCH)
    host.open(999)
    others = [9] * 5
    history = [1] * 100
    for turn in range(30):
        host.open(turn)
        host.run(turn, 0, history, 3)
        history += [*host.ids[host.runs], 7]
        host.close(turn)
        host.run(999, 0, others, 140)  # long enough for the closed chain to be copied
    assert host.scheduler.held.parked_bytes < 4 * (len(history) + 1000)


def test_a_prompt_that_is_held_keeps_its_last_token_to_decode_through_a_sweep() -> None:
    host = Host(sequences=20, cells=20_000, context_tokens=2000, parked_bytes=MUCH)
    for handle in range(1, 5):
        host.open(handle)
        host.run(handle, 0, [handle] * 1000, 1)
    host.run(4, 1000, [9], 20)  # long enough for the others to be copied
    for handle in range(10, 20):
        host.open(handle)
        host.submit(handle, 0, [handle] * 220, 20)
    run = host.submit(1, 1000, [], 3)
    while host.context.range > 0 and not host.ids[run]:
        host.step()
    assert host.ids[run] == [], "no batch was full when the cache was swept"
    host.finish()
    assert host.ids[run] == continuation([1] * 1000, 3)
    assert host.ended[run].usage.cached_tokens == 999


def test_a_chain_comes_back_in_parts_while_others_decode() -> None:
    host = with_idle_chains(8, MUCH)
    host.open(200)
    host.run(200, 0, [6] * 3500, 1)
    host.run(100, 599, [7] * 20, 100)  # the others are parked by then
    stream = host.submit(100, 718, [8], 300)
    host.step()
    run = host.submit(200, 3500, [9], 1)
    before, most = host.context.loaded, 0
    while run not in host.ended:
        said = len(host.ids[stream])
        loaded = host.context.loaded
        host.step()
        most = max(most, host.context.loaded - loaded)
        assert len(host.ids[stream]) == said + 1, "every step decodes a token of the stream"
    assert host.context.loaded - before == 3500
    assert most <= chains.AT_ONCE_TOKENS
    assert host.ended[run].usage.restored_tokens == 3500
    host.finish()
    assert host.context.lies_in_order()


def test_a_long_chain_makes_room_for_another_one_in_parts() -> None:
    host = Host(sequences=4, cells=7000, context_tokens=4000, parked_bytes=MUCH)
    for handle in (1, 2, 3):
        host.open(handle)
    host.run(1, 0, [1] * 3500, 1)
    host.run(2, 0, [2] * 10, 200)  # the first one leaves
    stream = host.submit(2, 209, [2], 300)
    host.step()
    last = host.submit(3, 0, [3] * 3500, 1)
    while last not in host.ended:
        host.step()
    copied = host.held.copies
    run = host.submit(1, 3500, [9], 3)
    most = 0
    while run not in host.ended:
        said, before = len(host.ids[stream]), host.held.copies
        host.step()
        most = max(most, host.held.copies - before)
        assert len(host.ids[stream]) == said + 1
    assert host.held.copies > copied + 8, "the other one was copied before"
    assert most <= chains.AT_ONCE_TOKENS // PIECE_TOKENS + 1
    assert host.ended[run].usage.restored_tokens == 3500
    assert host.ids[run] == continuation([1] * 3500 + [9], 3)
    host.finish()
    assert host.run(3, 3500, [8], 1).usage.cached_tokens == 3500


def test_short_turns_do_not_keep_a_chain_from_coming_back_for_ever() -> None:
    with small_pieces(64):
        host = Host(sequences=20, cells=200, context_tokens=180, parked_bytes=MUCH)
        host.open(0)
        host.run(0, 0, [0] * 150, 1)
        host.open(1)
        host.run(1, 0, [1] * 100, 70)  # takes its cells
        runs = [host.submit(1, 169, [1], 3)]
        coming = host.submit(0, 150, [0], 1)
        for handle in range(2, 200):
            host.open(handle)
            runs.append(host.submit(handle, 0, [handle] * 40, 20))
            host.step()
        assert coming in host.ended
        assert sum(run in host.ended for run in runs) < 100, "there was room for all"
        assert host.ended[coming].usage.restored_tokens == 150
        host.finish()


def test_a_short_turn_passes_one_whose_chain_comes_back() -> None:
    host = with_idle_chains(8, MUCH)
    host.open(200)
    host.run(200, 0, [6] * 3500, 1)
    host.run(100, 599, [7] * 20, 100)
    run = host.submit(200, 3500, [9], 1)
    host.open(300)
    short = host.submit(300, 0, [40] * 5, 1)
    host.step()
    assert short in host.ended
    assert run not in host.ended
    host.finish()
    assert host.ids[run] == continuation([6] * 3500 + [9], 1)


def test_an_abort_while_a_chain_comes_back_leaves_it_what_it_has() -> None:
    host = with_idle_chains(8, MUCH)
    host.open(200)
    host.run(200, 0, [6] * 3500, 1)
    host.run(100, 599, [7] * 20, 100)
    run = host.submit(200, 3500, [9], 1)
    host.step()
    host.scheduler.receive(Abort(run))
    host.finish()
    assert host.ended[run].usage.held_tokens == 3500
    host.close(200)
    host.open(300)
    ended = host.run(300, 0, [6] * 3500 + [8], 2)
    assert (ended.usage.cached_tokens, ended.reason) == (3500, EndReason.LENGTH)
    assert host.ids[host.runs] == continuation([6] * 3500 + [8], 2)


def test_what_is_preempted_comes_back_from_a_copy() -> None:
    host = Host(sequences=4, cells=60, context_tokens=50, parked_bytes=MUCH)
    for handle in range(1, 4):
        host.open(handle)
        host.submit(handle, 0, [handle] * 20, 25)
    host.finish()
    for handle in range(1, 4):
        assert host.ids[handle] == continuation([handle] * 20, 25)
    assert host.context.decoded == 3 * 44


def test_a_chain_that_lost_its_beginning_to_a_rewind_is_not_lost_for_want_of_memory() -> None:
    host = Host(sequences=1, parked_bytes=450)  # 50 tokens are 204 bytes
    for handle in (1, 2):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    run = host.submit(1, 0, [8] * 5, 1)  # parked up to now
    host.scheduler.receive(Abort(run))
    for handle in (3, 4):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    assert host.run(1, 0, [8] * 5, 1).reason is EndReason.LENGTH
