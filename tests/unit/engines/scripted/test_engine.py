from typing import Any

import pytest
from tests.support.conversations import TOOLS
from tests.support.engine_play import Playing, play, view
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.engines.scripted import ScriptedEngine, script_of
from hotloop.formats import chatml
from hotloop.protocol.items import FunctionCallOutput, Item, Message
from hotloop.seams.engine import EndReason, Sampling
from hotloop.seams.format import ItemDelta
from hotloop.seams.prompt import CallRules, PromptContext
from hotloop.session.principal import LOCAL, Tenant
from hotloop.session.token_log import TokenView

TOKENIZER = ToyTokenizer()
FORMAT = chatml(TOKENIZER, thinking=True)
GO = view([Message(role="user", content="go")])
PROMPT = [1, 2, 3]


def engine(*turns: dict[str, Any], context_tokens: int = 10_000, **script: Any) -> ScriptedEngine:
    conversations = [{"match": "go", "turns": list(turns)}] if turns else []
    return ScriptedEngine(
        script_of({"scripts": conversations, **script}), FORMAT, TOKENIZER, context_tokens=context_tokens
    )


def opened(engine: ScriptedEngine, ids: list[int] | None = None, tenant: Tenant = LOCAL) -> Any:
    return engine.open(TokenView.of(ids or []), parent=None, tenant=tenant)


def text(ids: list[int]) -> str:
    parser = FORMAT.parser(PromptContext())
    events = parser.feed(ids, None) + parser.finish(complete=True)
    return "".join(event.text for event in events if isinstance(event, ItemDelta))


async def test_a_turn_comes_as_tokens_one_step_at_a_time() -> None:
    played = await play(opened(engine({"text": "the answer"})), 0, PROMPT, GO)
    assert text(played.ids) == "the answer"
    assert all(len(step) == 1 for step in played.steps)
    assert (played.reason, played.usage.prompt_tokens, played.usage.output_tokens) == (
        EndReason.STOP,
        3,
        len(played.ids),
    )
    assert played.ids[-1] in FORMAT.stop_tokens


async def test_pace_sets_the_size_of_a_step() -> None:
    played = await play(opened(engine({"text": "the answer of it all"}, pace={"tokens": 3})), 0, PROMPT, GO)
    assert [len(step) for step in played.steps[:-1]] == [3] * (len(played.steps) - 1)


async def test_delay_and_seconds_between_steps_pass_on_the_clock_of_the_loop() -> None:
    paced = {"text": "a b", "delay": 0.02, "pace": {"tokens": 1, "seconds": 0.01}}
    played = await play(opened(engine(paced)), 0, PROMPT, GO)
    assert played.usage.prefill_s >= 0.019
    assert played.usage.decode_s >= 0.009 * (len(played.ids) - 1)


async def test_output_is_cut_at_the_token_limit() -> None:
    played = await play(opened(engine({"text": "the answer"})), 0, PROMPT, GO, sampling=Sampling(max_tokens=1))
    assert (played.reason, len(played.ids)) == (EndReason.LENGTH, 1)


async def test_output_is_cut_where_the_context_is_full() -> None:
    played = await play(opened(engine({"text": "the answer"}, context_tokens=5)), 0, PROMPT, GO)
    assert (played.reason, len(played.ids)) == (EndReason.LENGTH, 2)


async def test_custom_calls_and_reasoning_are_played() -> None:
    context = PromptContext(tools=TOOLS)
    turn = {"reasoning": "hm", "call": {"name": "python", "input": "print()"}}
    played = await play(opened(engine(turn)), 0, PROMPT, view([Message(role="user", content="go")], context))
    assert text(played.ids) == 'hm{"input": "print()"}'  # the parser of a context without tools sees arguments


async def test_a_stop_token_of_the_caller_ends_the_output() -> None:
    stop = TOKENIZER.encode(" answer")[0]
    sampling = Sampling(max_tokens=99, stop_tokens=frozenset([stop]))
    played = await play(opened(engine({"text": "the answer is long"})), 0, PROMPT, GO, sampling=sampling)
    assert (played.reason, played.ids[-1]) == (EndReason.STOP, stop)


async def test_no_tokens_is_a_prefill_only() -> None:
    handle = opened(engine({"text": "a", "fail": {}}))
    played = await play(handle, 0, PROMPT, GO, sampling=Sampling(max_tokens=0))
    assert (played.reason, played.ids, played.usage.held_tokens) == (EndReason.LENGTH, [], 3)


async def test_logprobs_belong_to_their_tokens() -> None:
    handle = opened(engine({"text": "the answer"}))
    played = await play(handle, 0, PROMPT, GO, sampling=Sampling(max_tokens=99, top_logprobs=3))
    assert [one.token for one in played.logprobs] == played.ids
    for one in played.logprobs:
        assert one.top[0] == (one.token, one.logprob)
        assert len(one.top) == 3 and sorted(one.top, key=lambda pair: -pair[1]) == list(one.top)
    again = await play(opened(engine({"text": "the answer"})), 0, PROMPT, GO, sampling=Sampling(99, top_logprobs=0))
    assert all(one.top == () for one in again.logprobs)


async def test_the_kv_of_a_chain_grows_and_only_new_tokens_count() -> None:
    handle = opened(engine({"text": "one"}))
    first = await play(handle, 0, PROMPT, GO)
    held = first.usage.held_tokens
    assert (first.usage.cached_tokens, held) == (0, 3 + len(first.ids) - 1)
    second = await play(handle, held, [first.ids[-1], 7, 8], GO)
    assert (second.usage.cached_tokens, second.usage.prompt_tokens) == (held, held + 3)
    rewound = await play(handle, 2, [9], GO)
    assert (rewound.usage.cached_tokens, rewound.usage.prompt_tokens) == (2, 3)


async def test_keeping_more_than_is_held_needs_the_full_prompt() -> None:
    played = await play(opened(engine({"text": "a"})), 5, PROMPT, GO)
    assert (played.reason, played.steps) == (EndReason.NEEDS_FULL_PROMPT, [])


async def test_kv_is_found_again_by_prefix_for_the_same_tenant_only() -> None:
    played_on = engine({"text": "a"})
    handle = opened(played_on)
    first = await play(handle, 0, PROMPT, GO)
    handle.close()
    handle.close()
    for tenant, cached in ((Tenant("other"), 0), (LOCAL, 3)):
        again = opened(played_on, [*PROMPT, 500], tenant)
        played = await play(again, 4, [5], GO)
        assert (played.usage.cached_tokens, played.reason) == (cached, first.reason)


async def test_a_fork_shares_what_is_common_and_leaves_the_parent_alone() -> None:
    played_on = engine({"text": "a"})
    parent = opened(played_on)
    await play(parent, 0, PROMPT, GO)
    fork = played_on.open(TokenView.of([1, 2, 9]), parent=parent, tenant=LOCAL)
    assert (await play(fork, 3, [4], GO)).usage.cached_tokens == 2
    assert (await play(parent, 3, [4], GO)).usage.cached_tokens == 3


async def test_a_script_can_lose_the_kv_once_per_handle() -> None:
    played_on = engine({"text": "a", "lose_kv": True})
    handle = opened(played_on)
    assert (await play(handle, 0, PROMPT, GO)).reason is EndReason.STOP
    lost = await play(handle, 3, [4], GO)
    assert (lost.reason, lost.usage.held_tokens) == (EndReason.NEEDS_FULL_PROMPT, 0)
    fresh = opened(played_on, [1, 2, 3, 4])
    assert (await play(fresh, 4, [5], GO)).reason is EndReason.STOP


async def test_abort_comes_through_and_keeps_what_was_computed() -> None:
    handle = opened(engine({"text": "the answer of it all"}))
    played = await play(handle, 0, PROMPT, GO, abort_after=2)
    assert (played.reason, len(played.steps), played.usage.held_tokens) == (EndReason.ABORTED, 2, 4)
    assert (await play(handle, 4, [9], GO)).usage.cached_tokens == 4


async def test_abort_during_the_delay_and_after_the_end() -> None:
    playing = Playing(opened(engine({"text": "a", "delay": 60})), 0, PROMPT, GO)
    playing.run.abort()
    playing.run.abort()
    assert (await playing.result()).reason is EndReason.ABORTED
    playing.run.abort()


async def test_closing_a_handle_aborts_its_run() -> None:
    handle = opened(engine({"text": "a", "delay": 60}))
    playing = Playing(handle, 0, PROMPT, GO)
    handle.close()
    assert (await playing.result()).reason is EndReason.ABORTED


async def test_closing_a_handle_from_its_own_step_ends_the_run() -> None:
    handle = opened(engine({"text": "the answer of it all"}))
    playing = Playing(handle, 0, PROMPT, GO)
    playing.played.steps = _ClosingSteps(handle)
    played = await playing.result()
    assert (played.reason, len(played.steps)) == (EndReason.ABORTED, 1)


class _ClosingSteps(list[list[int]]):
    def __init__(self, handle: Any) -> None:
        super().__init__()
        self._handle = handle

    def append(self, step: list[int]) -> None:
        super().append(step)
        self._handle.close()


async def test_closing_the_engine_ends_every_run_and_refuses_new_ones() -> None:
    played_on = engine({"text": "a", "delay": 60})
    handle = opened(played_on)
    playing = Playing(handle, 0, PROMPT, GO)
    await played_on.close()
    await played_on.close()
    assert playing.played.reason is EndReason.ABORTED
    late = await play(opened(played_on), 0, PROMPT, GO)
    assert late.reason is EndReason.UNAVAILABLE


@pytest.mark.parametrize(("reason", "ended"), [("unavailable", EndReason.UNAVAILABLE), ("timeout", EndReason.TIMEOUT)])
async def test_failures_come_before_or_after_some_output(reason: str, ended: EndReason) -> None:
    for after in (0, 2):
        fail = {"reason": reason, "after_tokens": after}
        played = await play(opened(engine({"text": "the answer of it", "fail": fail})), 0, PROMPT, GO)
        assert (played.reason, len(played.ids), played.detail) == (ended, after, f"the script says so: {reason}")


async def test_a_failure_can_pass() -> None:
    played_on = engine({"text": "a", "fail": {"times": 1}})
    assert (await play(opened(played_on), 0, PROMPT, GO)).reason is EndReason.UNAVAILABLE
    assert (await play(opened(played_on), 0, PROMPT, GO)).reason is EndReason.STOP


async def test_the_death_of_the_host_takes_every_run_and_all_kv() -> None:
    script = script_of(
        {
            "scripts": [
                {"match": "die", "turns": [{"text": "a b", "fail": {"reason": "host_death", "after_tokens": 1}}]},
                {"match": "go", "turns": [{"text": "a", "delay": 60}]},
            ]
        }
    )
    played_on = ScriptedEngine(script, FORMAT, TOKENIZER)
    bystander, idle = opened(played_on), opened(played_on)
    waiting = Playing(bystander, 0, PROMPT, GO)
    await play(idle, 0, PROMPT, view([Message(role="user", content="else")]))
    died = await play(opened(played_on), 0, PROMPT, view([Message(role="user", content="die")]))
    assert (died.reason, len(died.ids)) == (EndReason.UNAVAILABLE, 1)
    assert waiting.played.reason is EndReason.UNAVAILABLE
    assert (await play(idle, 3, [4], GO)).reason is EndReason.NEEDS_FULL_PROMPT


async def test_a_demand_that_is_not_met_fails_the_turn_with_the_reason() -> None:
    played = await play(opened(engine({"text": "a", "requires_tool": "ls"})), 0, PROMPT, GO)
    assert (played.reason, played.ids) == (EndReason.UNAVAILABLE, [])
    assert "the tool 'ls' is required" in played.detail


async def test_a_long_loop_is_followed_without_reading_back() -> None:
    handle = opened(engine({"call": {"name": "bare"}}, {"text": "end"}))
    context = PromptContext(tools=TOOLS)
    items: list[Item] = [Message(role="user", content="go")]
    rules = CallRules("none")
    first = await play(handle, 0, PROMPT, view(items, context, rules))
    assert text(first.ids) != "end"
    items.append(FunctionCallOutput(call_id="1", output="ok"))
    held = first.usage.held_tokens
    second = await play(handle, held, [first.ids[-1], 4], view(items, context, rules))
    assert text(second.ids) == "end"
    rewound = await play(handle, 1, [4], view(items[:1], context, rules))
    assert text(rewound.ids) == text(first.ids)


async def test_prepared_turns_are_kept_within_bounds() -> None:
    tokenizer = ToyTokenizer()
    conversations = [{"match": f"^{number}$", "turns": [{"text": f"{number}"}]} for number in range(300)]
    played_on = ScriptedEngine(script_of({"scripts": conversations}), chatml(tokenizer, thinking=False), tokenizer)

    context = PromptContext(digest=b"one")

    async def encodes(number: int) -> bool:
        before = tokenizer.encode_calls
        await play(opened(played_on), 0, PROMPT, view([Message(role="user", content=str(number))], context))
        return tokenizer.encode_calls > before

    assert [await encodes(number) for number in range(300)] == [True] * 300
    assert not await encodes(299)
    assert await encodes(0)


async def test_a_turn_that_looks_back_is_judged_every_time() -> None:
    played_on = engine({"text": "fine", "requires_history": "Ada"})
    context = PromptContext(digest=b"one")
    history = [Message(role="user", content="I am Ada"), Message(role="user", content="go")]
    assert (await play(opened(played_on), 0, PROMPT, view(history, context))).reason is EndReason.STOP
    assert (await play(opened(played_on), 0, PROMPT, view(history[1:], context))).reason is EndReason.UNAVAILABLE
