"""Chains that idle: what they cost the others, where their KV goes, and how it comes back."""

from tests.support.fake_context import continuation
from tests.support.llama_scheduler import Host

from hotloop.engines.llama import chains
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


def test_more_handles_than_sequences_lose_nothing() -> None:
    host = Host(sequences=2, parked_bytes=MUCH)
    for handle in range(1, 8):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    for handle in range(1, 8):
        assert host.run(handle, 50, [9], 1).usage.cached_tokens == 50


def test_more_tokens_than_cells_lose_nothing() -> None:
    host = Host(sequences=8, cells=200, context_tokens=100, parked_bytes=MUCH)
    for handle in range(1, 8):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    for handle in range(1, 8):
        assert host.run(handle, 50, [9], 1).usage.cached_tokens == 50


def test_where_memory_ends_the_chain_that_was_parked_first_is_lost_and_says_so() -> None:
    host = Host(sequences=1, parked_bytes=600)  # 50 tokens are 204 bytes
    for handle in range(1, 5):
        host.open(handle)
        host.run(handle, 0, [handle] * 50, 1)
    assert host.scheduler.parked_bytes <= 600
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
    size = host.scheduler.parked_bytes
    host.open(200, [3] * 900)
    assert host.run(200, 900, [9], 1).usage.restored_tokens == 900
    assert host.run(3, 1000, [9], 1).usage.cached_tokens == 1000
    host.open(300)
    host.run(300, 0, [5] * 30, 200)
    assert host.scheduler.parked_bytes < 1.3 * size, "what chains have in common takes memory once"


def test_a_beginning_that_many_chains_share_is_copied_once_and_does_not_drive_anyone_out() -> None:
    host = Host(sequences=12, cells=20_000, context_tokens=4000, parked_bytes=MUCH)
    prompt = list(range(1024))
    for handle in range(1, 11):
        host.open(handle)
        host.run(handle, 0, [*prompt, handle], 20)
    host.open(100)
    host.run(100, 0, [*prompt, 5], 500)
    assert host.context.loaded == 0, "the others have 20 cells each that are theirs alone"
    assert host.scheduler.parked_bytes < 4 * (1024 + 10 * 300)
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
