"""The engine host as a process: its deaths, its silence, its end, and what a turn costs it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio
from tests.support.generating import TIMEOUT_S, assert_same_greedy, begin, finished, generate, greedy
from tests.support.random_gguf import write_sliding_gguf
from tests.support.recurrent_gguf import write_hybrid_gguf, write_recurrent_gguf

from hotloop.engines.llama import LibraryError, LlamaEngine, ModelFileError
from hotloop.engines.llama.binding import Model
from hotloop.engines.llama.link import HostLink, spawn
from hotloop.engines.llama.messages import Generate, frame
from hotloop.engines.llama.options import HostOptions
from hotloop.seams.engine import Constraint, EndReason, KvUse, Sampling
from hotloop.session.principal import LOCAL, Tenant
from hotloop.session.token_log import TokenView

PROMPT = [10, 20, 30, 40, 50]


@pytest_asyncio.fixture
async def engine(random_model: Path) -> AsyncIterator[LlamaEngine]:
    engine = await LlamaEngine.start(str(random_model), threads=1)
    yield engine
    await engine.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_from_the_second_turn_on_only_new_tokens_are_decoded(engine: LlamaEngine) -> None:
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    chain: list[int] = []
    held = 0
    for turn in range(4):
        new = [60 + turn] * 50
        before = engine.decoded_tokens
        chain += new
        outcome = await generate(handle, held, chain[held:], greedy(10))
        chain += outcome.ids
        # the last sampled token of the turn before, the new ones, and all sampled ones but the last
        assert engine.decoded_tokens - before == (1 if turn else 0) + len(new) + 10 - 1
        held = outcome.usage.held_tokens


async def test_a_killed_host_fails_its_runs_and_the_next_turn_works(engine: LlamaEngine) -> None:
    pid = engine.host_pid
    assert pid is not None
    handles = [engine.open(TokenView.of([]), parent=None, tenant=LOCAL) for _ in range(3)]
    kill = partial(os.kill, pid, signal.SIGKILL)
    outcomes = [begin(handle, 0, PROMPT, greedy(4000), on_step=kill)[1] for handle in handles]
    for outcome in outcomes:
        await finished(outcome)
        assert outcome.reason is EndReason.UNAVAILABLE
        assert outcome.calls.count("end") == 1
    assert (await generate(handles[0], 5, [1], greedy(1))).reason is EndReason.NEEDS_FULL_PROMPT
    again = engine.open(TokenView.of(PROMPT), parent=None, tenant=LOCAL)
    outcome = await generate(again, len(PROMPT), [60], greedy(5))
    assert (outcome.reason, len(outcome.ids)) == (EndReason.LENGTH, 5)
    assert engine.host_pid not in (None, pid)
    assert not is_alive(pid)


async def test_with_a_host_its_kv_is_gone(engine: LlamaEngine) -> None:
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    await generate(handle, 0, PROMPT, greedy(5))
    total = engine.kv_use.total_cells
    assert engine.kv_use == KvUse(len(PROMPT) + 4, total)
    pid = engine.host_pid
    assert pid is not None
    _, outcome = begin(handle, 0, PROMPT, greedy(4000), on_step=partial(os.kill, pid, signal.SIGKILL))
    await finished(outcome)
    assert engine.kv_use == KvUse(0, total)
    again = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    outcome = await generate(again, 0, PROMPT, greedy(5), constraint=Constraint("no grammar"))
    assert outcome.reason is EndReason.CONSTRAINT
    assert engine.kv_use == KvUse(0, total), "the next host has computed nothing yet"
    await generate(again, 0, PROMPT, greedy(5))
    assert engine.kv_use.cells == len(PROMPT) + 4


@pytest.mark.parametrize(("write", "cells"), [(write_recurrent_gguf, 0), (write_hybrid_gguf, 512)])
async def test_tokens_of_a_recurrent_state_take_no_cells(
    write: Callable[[Path], Path], cells: int, tmp_path: Path
) -> None:
    engine = await LlamaEngine.start(str(write(tmp_path / "model.gguf")), threads=1, kv_cells=512, context_tokens=512)
    try:
        for first in (10, 11):
            handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
            await generate(handle, 0, [first] * 400, greedy(5))
        assert engine.kv_use == KvUse(404 if cells else 0, cells)
    finally:
        await engine.close()


async def test_a_host_that_fails_says_why(random_model: Path) -> None:
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    host = await spawn(
        HostOptions(path=str(random_model), threads=1), lambda: HostLink(lambda _step: None, lost.set_result)
    )
    await host.link.ready()
    host.link.send(frame(Generate(99, 1, 0, b"", greedy(1), None)))  # there is no such handle
    assert (await asyncio.wait_for(lost, TIMEOUT_S)).startswith("KeyError in _generate, line ")
    await host.stop()


async def test_what_cannot_be_said_to_the_host_fails_its_caller_only(engine: LlamaEngine) -> None:
    pid = engine.host_pid
    assert pid is not None
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    kill = partial(os.kill, pid, signal.SIGKILL)
    _, outcome = begin(handle, 0, PROMPT, greedy(4000), on_step=kill)
    await finished(outcome)
    waiting = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    with pytest.raises(OverflowError):  # no host is up
        begin(waiting, 0, PROMPT, Sampling(max_tokens=1, temperature=0.0, seed=2**70))
    assert (await generate(waiting, 0, PROMPT, greedy(1))).reason is EndReason.LENGTH
    successor = engine.host_pid
    assert successor is not None
    os.kill(successor, signal.SIGKILL)
    again = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    outcome = await generate(again, 0, PROMPT, greedy(1))
    assert outcome.reason in (EndReason.LENGTH, EndReason.UNAVAILABLE), "the host is looked after as before"
    last = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    assert (await generate(last, 0, PROMPT, greedy(1))).reason is EndReason.LENGTH


async def test_while_no_host_starts_runs_fail_and_when_one_does_they_work(random_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.symlink_to(random_model)
    engine = await LlamaEngine.start(str(path), threads=1)
    pid = engine.host_pid
    assert pid is not None
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    path.unlink()
    kill = partial(os.kill, pid, signal.SIGKILL)
    _, outcome = begin(handle, 0, PROMPT, greedy(4000), on_step=kill)
    assert (await finished(outcome)).reason is EndReason.UNAVAILABLE
    waiting = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    outcome = await generate(waiting, 0, PROMPT, greedy(1))
    assert outcome.reason is EndReason.UNAVAILABLE
    assert "does not start" in outcome.detail
    path.symlink_to(random_model)  # the next attempt comes later than this line: the loop has not run since
    again = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    assert (await generate(again, 0, PROMPT, greedy(1))).reason is EndReason.LENGTH
    await engine.close()


async def test_a_host_that_says_nothing_times_its_runs_out_and_is_replaced(random_model: Path) -> None:
    engine = await LlamaEngine.start(str(random_model), threads=1, watchdog_s=0.5)
    pid = engine.host_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    outcome = await generate(handle, 0, PROMPT, greedy(5))
    assert outcome.reason is EndReason.TIMEOUT
    again = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    outcome = await generate(again, 0, PROMPT, greedy(5))
    assert (outcome.reason, len(outcome.ids)) == (EndReason.LENGTH, 5)
    await engine.close()
    assert not is_alive(pid)


async def test_close_leaves_no_process(random_model: Path) -> None:
    engine = await LlamaEngine.start(str(random_model), threads=1)
    pid = engine.host_pid
    assert pid is not None
    await engine.close()
    assert not is_alive(pid)
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    assert (await generate(handle, 0, PROMPT, greedy(1))).reason is EndReason.UNAVAILABLE


async def test_the_host_dies_with_a_server_that_is_killed(random_model: Path) -> None:
    script = (
        "import asyncio, sys\n"
        "from hotloop.engines.llama import LlamaEngine\n"
        "async def main():\n"
        "    engine = await LlamaEngine.start(sys.argv[1], threads=1)\n"
        "    print(engine.host_pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(random_model), stdout=asyncio.subprocess.PIPE
    )
    assert server.stdout is not None
    host_pid = int(await asyncio.wait_for(server.stdout.readline(), TIMEOUT_S))
    descriptor = os.pidfd_open(host_pid) if sys.platform == "linux" else None
    server.kill()
    await server.wait()
    if descriptor is None:
        pytest.skip("waiting for a process that is not a child needs Linux")
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    await asyncio.wait_for(gone.wait(), TIMEOUT_S)
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def test_signals_to_the_whole_group_do_not_stop_the_host(engine: LlamaEngine) -> None:
    pid = engine.host_pid
    assert pid is not None
    for group_signal in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid, group_signal)
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    assert (await generate(handle, 0, PROMPT, greedy(3))).reason is EndReason.LENGTH
    assert engine.host_pid == pid


async def test_a_model_that_cannot_be_loaded_is_named_with_the_reason(random_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        await LlamaEngine.start(str(tmp_path / "none.gguf"))
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(random_model.read_bytes()[:-1000])  # noqa: ASYNC240  # half a megabyte, in a test
    with pytest.raises(ModelFileError, match="truncated or damaged") as caught:
        await LlamaEngine.start(str(cut))
    assert caught.value.path == str(cut)


async def test_a_library_that_cannot_be_driven_is_one_clear_error(
    random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "libllama.so"
    other.write_bytes(b"not an object")
    monkeypatch.setenv("LIBLLAMA", str(other))
    with pytest.raises(LibraryError, match="cannot use"):
        await LlamaEngine.start(str(random_model))


async def test_options_out_of_bounds_are_refused_by_name(random_model: Path) -> None:
    with pytest.raises(ValueError, match="sequences must be from 1 to 255"):
        await LlamaEngine.start(str(random_model), sequences=256)
    with pytest.raises(ValueError, match="kv_cells"):
        await LlamaEngine.start(str(random_model), context_tokens=512, kv_cells=256)


async def test_a_small_cache_serves_more_chains_than_it_holds(random_model: Path) -> None:
    engine = await LlamaEngine.start(str(random_model), threads=1, context_tokens=200, kv_cells=512, sequences=4)
    try:
        assert engine.context_tokens == 200
        handles = [engine.open(TokenView.of([]), parent=None, tenant=LOCAL) for _ in range(6)]
        outcomes = await asyncio.gather(
            *(generate(handle, 0, [number] * 60, greedy(120)) for number, handle in enumerate(handles))
        )
        for number, outcome in enumerate(outcomes):
            alone = engine.open(TokenView.of([]), parent=None, tenant=Tenant(f"alone {number}"))
            assert_same_greedy(await generate(alone, 0, [number] * 60, greedy(120, top_logprobs=2)), outcome)
    finally:
        await engine.close()


async def test_chains_that_leave_the_cache_come_back_with_their_kv(random_model: Path) -> None:
    engine = await LlamaEngine.start(str(random_model), threads=1, kv_cells=1024, sequences=2)
    try:
        handles = [engine.open(TokenView.of([]), parent=None, tenant=Tenant(f"{n}")) for n in range(6)]
        chains = [[number] * 300 for number in range(6)]
        held = [0] * 6
        for turn in range(3):
            for number, handle in enumerate(handles):
                decoded = engine.decoded_tokens
                outcome = await generate(handle, held[number], chains[number][held[number] :], greedy(5))
                assert outcome.usage.restored_tokens == outcome.usage.cached_tokens == held[number]
                assert engine.decoded_tokens - decoded == len(chains[number]) - held[number] + 4
                chains[number] += [*outcome.ids, 60 + turn]
                held[number] = outcome.usage.held_tokens
        for number, chain in enumerate(chains):
            alone = engine.open(TokenView.of([]), parent=None, tenant=Tenant(f"alone {number}"))
            expected = await generate(alone, 0, chain, greedy(20, top_logprobs=2))
            assert_same_greedy(
                expected, await generate(handles[number], held[number], chain[held[number] :], greedy(20))
            )
    finally:
        await engine.close()


async def test_a_model_with_a_sliding_window_is_never_parked_and_rewinds_rightly(tmp_path: Path) -> None:
    engine = await LlamaEngine.start(str(write_sliding_gguf(tmp_path / "sliding.gguf")), threads=1)
    try:
        handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
        prompt = [number % 190 for number in range(500)]
        await generate(handle, 0, prompt, greedy(1))
        for number in range(4):
            other = engine.open(TokenView.of([]), parent=None, tenant=Tenant("other"))
            await generate(other, 0, [number] * 400, greedy(100))
        rewound = await generate(handle, 300, [7], greedy(20))
        assert rewound.usage.restored_tokens == 0
        alone = engine.open(TokenView.of([]), parent=None, tenant=Tenant("alone"))
        assert_same_greedy(await generate(alone, 0, [*prompt[:300], 7], greedy(20, top_logprobs=2)), rewound)
    finally:
        await engine.close()


async def test_what_was_parked_is_lost_with_the_host_and_says_so(random_model: Path) -> None:
    engine = await LlamaEngine.start(str(random_model), threads=1, sequences=1)
    try:
        handles = [engine.open(TokenView.of([]), parent=None, tenant=LOCAL) for _ in range(2)]
        for number, handle in enumerate(handles):
            await generate(handle, 0, [number] * 50, greedy(1))
        pid = engine.host_pid
        assert pid is not None
        kill = partial(os.kill, pid, signal.SIGKILL)
        await finished(begin(handles[1], 50, PROMPT, greedy(4000), on_step=kill)[1])
        assert (await generate(handles[0], 50, [9], greedy(1))).reason is EndReason.NEEDS_FULL_PROMPT
    finally:
        await engine.close()


async def test_the_largest_number_of_sequences_works(random_model: Path) -> None:
    engine = await LlamaEngine.start(str(random_model), threads=1, sequences=255)
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    assert (await generate(handle, 0, PROMPT, greedy(3))).reason is EndReason.LENGTH
    await engine.close()


def test_the_vocabulary_can_be_loaded_beside_the_model(random_model: Path) -> None:
    model, vocabulary = Model(str(random_model)), Model(str(random_model), vocabulary_only=True)
    assert model.vocabulary_size == vocabulary.vocabulary_size
    assert model.trained_context == vocabulary.trained_context == 4096
    model.close()
    vocabulary.close()
