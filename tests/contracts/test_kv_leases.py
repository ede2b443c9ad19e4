"""Which KV handle a `TokenModel` uses when, over the toy engine, which checks its own side of the contract."""

import asyncio

import pytest
from tests.support.model_turns import START, Chain, commit, make, prepare, ran, release, run, toy, user
from tests.support.toy_engine import ToyEngine
from tests.support.toy_format import ToyFormat
from tests.support.turns import written

from hotloop.models.token_state import TokenState
from hotloop.seams.engine import EndReason
from hotloop.session.item_log import ItemLog


async def test_a_second_child_of_one_parent_forks() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    one = await ran(model, parent, user("a"))
    two = await run(model, parent, user("b"))
    assert list(two.prepared.fallbacks) == ["kv_forked"]
    assert toy(model).handles[1].parent is toy(model).handles[0]
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>b<end><reply>")
    release(parent, one, commit(two))
    assert toy(model).open_handles == 0


async def test_a_child_forks_while_its_sibling_runs() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    toy(model).pause()
    one = await prepare(model, parent, user("a"))
    two = await prepare(model, parent, user("b"))
    one.start()
    two.start()
    toy(model).resume()
    await one.end()
    await two.end()
    assert list(one.prepared.fallbacks) == []
    assert list(two.prepared.fallbacks) == ["kv_forked"]
    release(parent, commit(one), commit(two))
    assert toy(model).open_handles == 0


async def test_an_older_turn_forks_and_the_newest_goes_on_in_place() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    second = await ran(model, first, user("a"))
    branch = await run(model, first, user("b"))
    third = await run(model, second, user("c"))
    assert list(branch.prepared.fallbacks) == ["kv_forked"]
    assert list(third.prepared.fallbacks) == []
    release(first, second, commit(branch), commit(third))
    assert toy(model).open_handles == 0


async def test_a_discarded_turn_gives_the_parents_handle_back() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    failed = await run(model, parent, user("a"))
    failed.prepared.discard()
    failed.prepared.discard()
    again = await run(model, parent, user("b"))
    assert list(again.prepared.fallbacks) == []
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>b<end><reply>")
    release(parent, commit(again))
    assert toy(model).open_handles == 0


@pytest.mark.parametrize("survives_abort", [True, False])
async def test_a_turn_discarded_while_it_runs_gives_the_handle_back_when_the_engine_stopped(
    survives_abort: bool,
) -> None:
    model = make(ToyEngine(survives_abort=survives_abort))
    parent = await ran(model, START, user("hi"))
    toy(model).pause()
    turn = await prepare(model, parent, user("a"))
    turn.start()
    stopped = toy(model).runs[-1]
    turn.prepared.discard()
    forked = await prepare(model, parent, user("b"))
    forked.start()
    assert list(forked.prepared.fallbacks) == ["kv_forked"]
    await asyncio.wait_for(stopped.over.wait(), timeout=60)
    assert turn.ends == []  # nobody is told: the turn was given up
    toy(model).resume()
    await forked.end()
    later = await run(model, parent, user("c"))
    assert list(later.prepared.fallbacks) == []
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>c<end><reply>")
    release(parent, commit(forked), commit(later))
    assert toy(model).open_handles == 0


async def test_a_turn_never_started_leaves_nothing() -> None:
    model = make()
    turn = await prepare(model, START, user("hi"))
    turn.prepared.abort()
    turn.prepared.discard()
    assert toy(model).handles == []


async def test_an_abort_before_start_stops_the_run_at_once() -> None:
    model = make()
    turn = await prepare(model, START, user("hi"))
    turn.prepared.abort()
    turn.start()
    assert (await turn.end()).reason is EndReason.ABORTED
    turn.prepared.discard()
    assert toy(model).open_handles == 0


async def test_an_abort_while_running_ends_once_and_keeps_the_parent() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    toy(model).pause()
    turn = await prepare(model, parent, user("a"))
    turn.start()
    turn.prepared.abort()
    turn.prepared.abort()
    assert (await turn.end()).error is None
    turn.prepared.discard()
    toy(model).resume()
    again = await run(model, parent, user("b"))
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>b<end><reply>")
    release(parent, commit(again))
    assert toy(model).open_handles == 0


async def test_kv_that_was_lost_is_sent_again_in_full_once() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    toy(model).loses_kv = 1
    turn = await run(model, parent, user("more"))
    assert list(turn.prepared.fallbacks) == ["kv_lost"]
    assert turn.ends[0].error is None
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>more<end><reply>")
    assert [handle.close_calls for handle in toy(model).handles] == [1, 0]
    release(parent, commit(turn))
    assert toy(model).open_handles == 0


async def test_a_turn_that_lost_its_kv_and_was_given_up_leaves_the_parent_in_place() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    toy(model).loses_kv = 1
    lost = await run(model, parent, user("a"))
    lost.prepared.discard()
    again = await run(model, parent, user("b"))
    assert list(again.prepared.fallbacks) == []
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>b<end><reply>")
    release(parent, commit(again))
    assert toy(model).open_handles == 0


async def test_kv_that_was_elsewhere_is_a_slower_path_with_a_name() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    toy(model).restores = True
    turn = await run(model, parent, user("more"))
    assert list(turn.prepared.fallbacks) == ["kv_restored"]
    release(parent, commit(turn))


async def test_kv_that_had_to_be_computed_again_is_a_slower_path_with_a_name() -> None:
    model = make()
    toy(model).recomputes = True
    parent = await ran(model, START, user("hi"))
    assert toy(model).handles[0].parent is None
    turn = await run(model, parent, user("more"))
    assert list(turn.prepared.fallbacks) == ["kv_recomputed"]
    release(parent, commit(turn))


async def test_kv_lost_twice_is_an_engine_failure() -> None:
    model = make()
    toy(model).loses_kv = 2
    turn = await run(model, START, user("hi"))
    assert turn.ends[0].error is not None
    assert turn.ends[0].error.code == "engine_unavailable"
    turn.prepared.discard()
    assert toy(model).open_handles == 0


async def test_a_handle_that_lost_its_kv_in_a_turn_that_was_given_up_serves_the_next_one() -> None:
    model = make()
    parent = await ran(model, START, user("hi"))
    toy(model).loses_kv = 1
    turn = await prepare(model, parent, user("a"))
    turn.start()
    lost = toy(model).runs[-1]
    turn.prepared.abort()
    turn.prepared.discard()
    await asyncio.wait_for(lost.over.wait(), timeout=60)
    again = await run(model, parent, user("b"))
    assert again.ends[0].error is None
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>b<end><reply>")
    release(parent, commit(again))
    assert toy(model).open_handles == 0


async def test_a_share_is_another_holder_and_goes_on_as_the_state_itself_would() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    assert first.state is not None
    share = Chain(first.state.share(), first.items)
    assert isinstance(share.state, TokenState)
    release(first)
    second = await run(model, share, user("more"))
    assert list(second.prepared.fallbacks) == []
    assert toy(model).runs[-1].keep == share.state.token_count - 1  # the stop token was sampled, not prefilled
    release(share, commit(second))
    assert toy(model).open_handles == 0


async def test_a_state_that_let_its_kv_go_keeps_its_tokens_and_says_so() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    assert first.state is not None
    first.state.release_kv()
    first.state.release_kv()
    assert toy(model).open_handles == 0
    assert isinstance(model.format, ToyFormat)
    model.format.extended_items = 0
    second = await run(model, first, user("more"))
    assert list(second.prepared.fallbacks) == ["kv_not_held"]
    assert model.format.extended_items == 1
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>more<end><reply>")
    release(first, commit(second))
    assert toy(model).open_handles == 0


async def test_the_input_alone_can_be_continued_on_a_fork_of_the_chains_kv() -> None:
    model = make()
    turn = await run(model, START, user("hi"))
    first = commit(turn)
    asked = Chain(turn.prepared.input_state(), ItemLog([user("hi")]))
    again = await run(model, asked)
    assert written(toy(model).runs[-1].prompt) == "<sys>Be brief.<end><user>hi<end><reply>"
    assert list(again.prepared.fallbacks) == ["kv_not_held"]
    assert toy(model).handles[1].parent is toy(model).handles[0]
    release(first, asked, commit(again))
    assert toy(model).open_handles == 0


async def test_the_last_turn_state_of_a_chain_closes_its_handle_once() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    second = await ran(model, first, user("a"))
    release(first)
    assert toy(model).open_handles == 1
    release(second, second, first)
    assert [handle.close_calls for handle in toy(model).handles] == [1]


async def test_a_state_is_as_big_as_what_its_turn_added() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    second = await ran(model, first, user("more"))
    assert isinstance(first.state, TokenState)
    assert isinstance(second.state, TokenState)
    assert second.state.size_bytes == 4 * (len(second.state.view) - len(first.state.view))
    release(first, second)


async def test_closing_the_model_stops_what_runs() -> None:
    model = make()
    toy(model).pause()
    turn = await prepare(model, START, user("hi"))
    turn.start()
    await model.close()
    assert (await turn.end()).reason is EndReason.ABORTED
    turn.prepared.discard()
