"""What every `seams.model.Model` promises, and which KV handle a `TokenModel` uses when.

Over the toy engine, which checks its own side of the contract: one run per handle, no handle used after its close.
"""

import asyncio
from array import array
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support.toy_engine import ToyEngine, ToyHandle
from tests.support.toy_format import CharTokenizer, Rewrites, ToyFormat, ToyState, call, say, think
from tests.support.turns import written

from hotloop.errors import ContextLengthExceeded, ServerFault
from hotloop.models import token_model
from hotloop.models.token_model import TokenModel
from hotloop.models.token_state import TokenState
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
)
from hotloop.seams.engine import EndReason
from hotloop.seams.format import Extension, Fallback, ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.model import ModelEnd, ModelRequest, PreparedTurn, SamplingWishes
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.chain import ModelState
from hotloop.session.item_log import ItemLog
from hotloop.session.model_context import ContextCache
from hotloop.session.principal import LOCAL

CONTEXT = PromptContext(instructions="Be brief.")


@dataclass
class Turn:
    """One turn under way: what it reported, and its end."""

    prepared: PreparedTurn
    request: ModelRequest
    events: list[ParsedEvent] = field(default_factory=list)
    ends: list[ModelEnd] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self) -> None:
        self.prepared.start(self.events.extend, self._end)
        assert not self.events
        assert not self.ends

    def _end(self, end: ModelEnd) -> None:
        self.ends.append(end)
        self.over.set()

    async def end(self) -> ModelEnd:
        await asyncio.wait_for(self.over.wait(), timeout=5)
        (end,) = self.ends
        return end

    def output(self) -> list[Item]:
        """The items its events describe."""
        items: list[Item] = []
        kind = name = text = ""
        for event in self.events:
            match event:
                case ItemOpened():
                    kind, name, text = event.kind, event.name, ""
                case ItemDelta():
                    text += event.text
                case ItemClosed():
                    items.append(as_item(kind, name, text))
        return items


def as_item(kind: str, name: str, text: str) -> Item:
    match kind:
        case "message":
            return Message(role="assistant", content=[OutputText(text=text)])
        case "reasoning":
            return Reasoning(content=[ReasoningText(text=text)])
        case "function_call":
            return FunctionCall(call_id="c", name=name, arguments=text)
        case _:
            return CustomToolCall(call_id="c", name=name, input=text)


@dataclass
class Chain:
    """A finished turn: what the next one continues."""

    state: ModelState | None
    items: ItemLog


START = Chain(None, ItemLog())


def user(text: str) -> Message:
    return Message(role="user", content=text)


def make(engine: ToyEngine | None = None, rewrites: Rewrites = "never") -> TokenModel:
    return TokenModel("toy", format=ToyFormat(rewrites), tokenizer=CharTokenizer(), engine=engine or ToyEngine())


def toy(model: TokenModel) -> ToyEngine:
    assert isinstance(model.engine, ToyEngine)
    return model.engine


async def prepare(model: TokenModel, parent: Chain, *new: Item, context: PromptContext = CONTEXT, **more: Any) -> Turn:
    request = ModelRequest(
        tenant=LOCAL,
        context=context,
        rules=more.pop("rules", CallRules()),
        wishes=more.pop("wishes", SamplingWishes()),
        history=parent.items,
        new_items=new,
        parent=parent.state,
        **more,
    )
    return Turn(await model.prepare(request), request)


async def run(model: TokenModel, parent: Chain, *new: Item, **more: Any) -> Turn:
    turn = await prepare(model, parent, *new, **more)
    turn.start()
    await turn.end()
    return turn


def commit(turn: Turn) -> Chain:
    output = turn.output()
    return Chain(turn.prepared.commit(output), turn.request.history.extended(turn.request.new_items).extended(output))


async def ran(model: TokenModel, parent: Chain, *new: Item, **more: Any) -> Chain:
    return commit(await run(model, parent, *new, **more))


def release(*chains: Chain) -> None:
    for chain in chains:
        if chain.state is not None:
            chain.state.release()


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
    await asyncio.wait_for(over.wait(), timeout=5)
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


# --- the lease ---


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
    await asyncio.wait_for(stopped.over.wait(), timeout=5)
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
    await asyncio.wait_for(lost.over.wait(), timeout=5)
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
