"""What every `seams.model.Model` promises, and which KV handle a `TokenModel` uses when.

Over the toy engine, which checks its own side of the contract: one run per handle, no handle used after its close.
"""

import asyncio
from array import array
from itertools import product
from typing import Any

import pytest
from tests.support.model_turns import START, Chain, Turn, commit, make, prepare, ran, release, run, toy, user
from tests.support.toy_engine import ToyEngine, ToyHandle
from tests.support.toy_format import Rewrites, ToyFormat, ToyState, call, say, think
from tests.support.turns import written

from hotloop.errors import ContextLengthExceeded, ServerFault
from hotloop.models import token_model
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Reasoning,
    ReasoningText,
)
from hotloop.seams.format import Extension, Fallback
from hotloop.seams.model import ModelEnd, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.model_context import ContextCache

# --- what is sent ---


async def test_the_first_turn_sends_everything_and_parses_the_output() -> None:
    model = make(ToyEngine(lambda prompt: think("hm", call("run", "{}"))))
    turn = await run(model, START, user("hi"))
    assert written(toy(model).runs[0].prompt) == "<sys>Be brief.<end><user>hi<end><reply>"
    assert [type(item).__name__ for item in turn.output()] == ["Reasoning", "FunctionCall"]
    assert turn.prepared.prompt_tokens == len(toy(model).runs[0].prompt)
    assert turn.ends[0].reasoning_tokens == 2
    turn.prepared.discard()


async def test_a_cut_turn_keeps_its_first_items_and_their_kv() -> None:
    model = make(ToyEngine(lambda prompt: think("hm", say("a long answer"))))
    turn = await run(model, START, user("hi"))
    kept = turn.output()[:1]
    state = turn.prepared.commit(kept, is_cut=True)
    chain = Chain(state, turn.request.history.extended(turn.request.new_items).extended(kept))
    following = await run(model, chain, user("more"))
    last = toy(model).runs[-1]
    assert written(last.prompt) == "<sys>Be brief.<end><user>hi<end><reply><think>hm<end><user>more<end><reply>"
    assert written(last.new) == "<end><user>more<end><reply>", "what was kept is not decoded again"
    assert list(following.prepared.fallbacks) == []
    release(chain, commit(following))


async def test_a_cut_turn_without_a_whole_item_keeps_its_input_only() -> None:
    model = make(ToyEngine(lambda prompt: say("a long answer")))
    turn = await run(model, START, user("hi"))
    state = turn.prepared.commit([], is_cut=True)
    chain = Chain(state, turn.request.history.extended(turn.request.new_items))
    following = await run(model, chain, user("more"))
    assert written(toy(model).runs[-1].prompt) == "<sys>Be brief.<end><user>hi<end><user>more<end><reply>"
    release(chain, commit(following))


async def test_a_cut_that_cannot_be_found_keeps_nothing_by_name() -> None:
    model = make(ToyEngine(lambda prompt: say("an answer")))
    turn = await run(model, START, user("hi"))
    two = [*turn.output(), *turn.output()]  # more items than were ever sampled
    assert turn.prepared.commit(two, is_cut=True) is None
    assert list(turn.prepared.fallbacks) == ["cut_not_found"]
    turn.prepared.discard()
    assert toy(model).open_handles == 0


async def test_a_warm_up_of_nothing_needs_no_engine_and_can_be_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin_with_nothing(self: ToyFormat, context: PromptContext) -> Extension:
        return Extension(0, array("I"), ToyState())

    model = make()
    monkeypatch.setattr(ToyFormat, "begin", begin_with_nothing)
    nothing = await ran(model, START, generate=False)
    assert toy(model).runs == []
    following = await run(model, nothing, user("hi"))
    assert written(toy(model).runs[0].prompt) == "<user>hi<end><reply>"
    assert list(following.prepared.fallbacks) == []
    release(nothing, commit(following))
    assert toy(model).open_handles == 0


async def test_a_run_that_cannot_be_submitted_gives_its_handle_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OverflowError

    model = make()
    first = await ran(model, START, user("hi"))
    with monkeypatch.context() as patched:
        patched.setattr(ToyHandle, "generate", refuse)
        for parent in (first, START):  # on the parent's handle, and on one of its own
            turn = await prepare(model, parent, user("more"))
            with pytest.raises(OverflowError):
                turn.start()
            turn.prepared.discard()
    assert toy(model).open_handles == 1
    following = await run(model, first, user("more"))
    assert list(following.prepared.fallbacks) == [], "the parent's handle is free"
    release(first, commit(following))
    assert toy(model).open_handles == 0


async def test_the_second_turn_sends_only_what_is_new() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    second = await run(model, first, user("more"))
    last = toy(model).runs[-1]
    assert written(last.new) == "<end><user>more<end><reply>"  # the stop token was sampled, never decoded
    assert written(last.prompt) == "<sys>Be brief.<end><user>hi<end><reply><text>ok<end><user>more<end><reply>"
    assert second.ends[0].usage.cached_tokens == last.keep > 0
    assert list(second.prepared.fallbacks) == []
    assert len(toy(model).handles) == 1
    release(first, commit(second))


async def test_only_new_items_are_rendered() -> None:
    model = make()
    chain = await ran(model, START, user("hi"))
    assert isinstance(model.format, ToyFormat)
    model.format.extended_items = 0
    second = await ran(model, chain, user("more"))
    assert model.format.extended_items == 1
    release(chain, second)


async def test_nothing_is_called_back_before_start_returns_and_the_end_is_last() -> None:
    turn = await prepare(make(ToyEngine(step=1)), START, user("hi"))
    order: list[str] = []
    over = asyncio.Event()

    def on_end(end: ModelEnd) -> None:
        order.append("end")
        over.set()

    turn.prepared.start(lambda events: order.append("events"), on_end)
    before = list(order)
    await asyncio.wait_for(over.wait(), timeout=60)
    assert before == []
    assert order.count("end") == 1
    assert order[-1] == "end"
    turn.prepared.discard()


async def test_a_warm_up_prefills_without_a_generation_prompt() -> None:
    model = make()
    turn = await run(model, START, user("hi"), generate=False)
    (only,) = toy(model).runs
    assert (only.sampling.max_tokens, written(only.prompt)) == (0, "<sys>Be brief.<end><user>hi<end>")
    assert turn.events == []
    warm = commit(turn)
    second = await run(model, warm, user("go"))
    assert toy(model).runs[-1].keep == len(only.prompt)
    release(warm, commit(second))


async def test_a_turn_that_does_not_fit_is_refused_before_the_engine_is_asked() -> None:
    model = make(ToyEngine(context_tokens=16))
    with pytest.raises(ContextLengthExceeded) as caught:
        await prepare(model, START, user("hi"))  # 16 tokens: no room for one more
    assert "16 tokens" in caught.value.message
    assert toy(model).handles == []
    warm = await run(model, START, user("hi"), generate=False)  # 15: no generation prompt, nothing to sample
    warm.prepared.discard()


async def test_what_may_be_sampled_is_bounded_by_the_request_and_by_the_context() -> None:
    model = make(ToyEngine(context_tokens=20))
    for asked, allowed in ((None, 4), (2, 2), (100, 4)):
        turn = await run(model, START, user("hi"), wishes=SamplingWishes(max_output_tokens=asked))
        assert toy(model).runs[-1].sampling.max_tokens == allowed
        turn.prepared.discard()


async def test_a_turn_gets_what_it_asks_for_whatever_the_turn_before_asked() -> None:
    model, chain, context = make(), START, PromptContext(instructions="Be brief.")
    asked = product(
        [CallRules(), CallRules("required")],
        [SamplingWishes(), SamplingWishes(temperature=0.5, seed=3), SamplingWishes(max_output_tokens=2)],
    )
    for rules, wishes in [*asked, (CallRules("required"), SamplingWishes()), (CallRules(), SamplingWishes())]:
        turn = await run(model, chain, user("hi"), context=context, rules=rules, wishes=wishes)
        engine_run = toy(model).runs[-1]
        assert (engine_run.constraint is not None) == (rules.choice == "required")
        assert engine_run.sampling.temperature == (wishes.temperature or model.default_temperature)
        assert (engine_run.sampling.seed, engine_run.sampling.max_tokens > 2) == (
            wishes.seed,
            not wishes.max_output_tokens,
        )
        before, chain = chain, commit(turn)
        release(before)
    release(chain)


async def test_a_constraint_goes_to_the_engine_and_is_made_once_per_context_and_rules() -> None:
    model = make()
    contexts = ContextCache(max_bytes=100_000)
    context = PromptContext(digest=b"d", shelf=contexts.shelf(b"d"))
    made: list[CallRules] = []
    constraint = model.format.constraint
    model.format.constraint = lambda context, rules: made.append(rules) or constraint(context, rules)  # type: ignore[method-assign, func-returns-value]
    for _ in range(2):
        turn = await run(model, START, user("hi"), context=context, rules=CallRules(choice="required"))
        assert toy(model).runs[-1].constraint is not None
        turn.prepared.discard()
    assert len(made) == 1
    for number in range(300):
        digest = b"%d" % number
        await prepare(model, START, user("hi"), context=PromptContext(digest=digest, shelf=contexts.shelf(digest)))
    assert contexts.total_bytes <= 100_000


# --- fallbacks ---


async def test_another_context_is_rendered_in_full_and_says_so() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    second = await run(model, first, user("more"), context=PromptContext(instructions="Be long."))
    assert list(second.prepared.fallbacks) == ["context_changed"]
    assert written(toy(model).runs[-1].prompt).startswith(
        "<sys>Be long.<end><user>hi<end><reply><text>ok<end><user>more"
    )
    release(first, commit(second))
    assert toy(model).open_handles == 0


async def test_a_chain_out_of_the_store_is_rendered_in_full_and_says_so() -> None:
    model = make()
    first = await ran(model, START, user("hi"))
    second = await run(model, Chain(None, first.items), user("more"))
    assert list(second.prepared.fallbacks) == ["state_not_kept"]
    assert written(toy(model).runs[-1].prompt).endswith("<text>ok<end><user>more<end><reply>")
    release(first, commit(second))


async def test_a_state_of_another_model_counts_as_not_kept() -> None:
    first = await ran(make(), START, user("hi"))
    model = make()
    second = await run(model, first, user("more"))
    assert list(second.prepared.fallbacks) == ["state_not_kept"]
    release(first, commit(second))


async def test_a_format_that_rewrites_history_is_rendered_in_full_under_its_own_name() -> None:
    model = make(ToyEngine(lambda prompt: think("hm", say("ok"))), rewrites="fallback")
    first = await ran(model, START, user("hi"))
    second = await run(model, first, user("more"))
    assert list(second.prepared.fallbacks) == ["reasoning_rewritten"]
    release(first, commit(second))
    assert toy(model).open_handles == 0


async def test_a_format_that_cannot_render_at_all_is_our_fault() -> None:
    model = make()
    model.format.extend = lambda *given: Fallback("never")  # type: ignore[method-assign]
    with pytest.raises(ServerFault):
        await prepare(model, START, user("hi"))


@pytest.mark.parametrize("can_rewind", [True, False])
async def test_a_rewind_keeps_what_stands_before_it(can_rewind: bool) -> None:
    model = make(ToyEngine(lambda prompt: think("hm", say("ok")), can_rewind=can_rewind), rewrites="rewind")
    first = await ran(model, START, user("hi"))
    second = await run(model, first, user("more"))
    assert written(toy(model).runs[-1].prompt) == (
        "<sys>Be brief.<end><user>hi<end><reply><text>ok<end><user>more<end><reply>"
    )
    names = list(second.prepared.fallbacks)
    assert names == (["reasoning_dropped"] if can_rewind else ["reasoning_dropped", "kv_forked"])
    release(first, commit(second))
    assert toy(model).open_handles == 0


async def test_kv_that_stands_under_rewritten_tokens_is_not_used_again() -> None:
    model = make(rewrites="rewind_at_commit")
    turn = await run(model, START, user("hi"))
    first = commit(turn)
    assert list(turn.prepared.fallbacks) == ["rewritten_at_commit"]
    second = await run(model, first, user("more"))
    assert (
        written(toy(model).runs[-1].prompt) == "<sys>Be brief.<end><user>hi<reply><text>ok<end><user>more<end><reply>"
    )
    release(first, commit(second))


async def test_long_new_text_is_rendered_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_model, "OFF_LOOP_CHARS", 10)
    calls: list[Any] = []
    to_thread = asyncio.to_thread

    async def counting(function: Any, *given: Any) -> Any:
        calls.append(function)
        return await to_thread(function, *given)

    monkeypatch.setattr(asyncio, "to_thread", counting)
    model = make()
    long = "x" * 11
    for item in (
        user(long),
        FunctionCallOutput(call_id="c", output=long),
        FunctionCall(call_id="c", name="n", arguments=long),
        CustomToolCall(call_id="c", name="n", input=long),
        Reasoning(content=[ReasoningText(text=long)]),
    ):
        await prepare(model, START, item)
    assert len(calls) == 5
    await prepare(model, START, user("short"))
    assert len(calls) == 5


# --- without a wait ---

_OTHER = PromptContext(instructions="Be brief.", tools=(), digest=b"other")
_BEHIND: dict[str, tuple[Item, ...]] = {
    "a word": (user("more"),),
    "nothing": (),
    "two": (user("more"), user("still more")),
    "long": (user("x" * 101),),
    "reasoning": (Reasoning(content=[ReasoningText(text="hm")]), user("more")),
    "a call": (FunctionCall(call_id="a", name="run", arguments="{}"), FunctionCallOutput(call_id="a", output="ok")),
}


@pytest.mark.parametrize("rewrites", ["never", "rewind", "fallback", "rewind_at_commit"])
@pytest.mark.parametrize("new", _BEHIND)
@pytest.mark.parametrize(
    "more", [{}, {"context": _OTHER}, {"rules": CallRules("none")}], ids=["same", "context", "rules"]
)
async def test_what_is_prepared_at_once_is_what_is_prepared_with_a_wait(
    rewrites: Rewrites, new: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nothing is, where there may be a wait."""
    monkeypatch.setattr(token_model, "OFF_LOOP_CHARS", 100)
    seen: list[object] = []
    for at_once in (False, True):
        model = make(ToyEngine(lambda prompt: think("hm", say("ok"))), rewrites)
        parent = await ran(model, START, user("hi"))
        turn = await prepare(model, parent, *_BEHIND[new], **more)
        if at_once:
            found = model.prepare_now(turn.request)
            if found is None:
                assert new != "a word" or more or rewrites == "fallback", "what most turns are takes no wait"
                turn.prepared.discard()
                release(parent)
                return
            turn.prepared.discard()
            turn = Turn(found, turn.request)
        turn.start()
        await turn.end()
        seen.append((turn.prepared.prompt_tokens, list(turn.prepared.fallbacks), list(toy(model).runs[-1].prompt)))
        release(parent, commit(turn))
    assert seen[0] == seen[1]
