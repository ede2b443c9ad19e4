"""What every `Engine` and `KvHandle` promises, run over every engine."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
from tests.contracts.engines import CASES, MODEL_CASES, EngineCase
from tests.support.generating import Outcome, assert_same_greedy, begin, finished, generate, greedy

from hotloop.engines.llama import GgufTokenizer
from hotloop.seams.engine import Constraint, EndReason, Engine, KvHandle, Sampling
from hotloop.session.principal import LOCAL, Tenant
from hotloop.session.token_log import TokenView

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["read", "write"]}, "count": {"type": "integer"}},
    "required": ["name", "count"],
    "additionalProperties": False,
}
# white space between the parts is left out: a random model would like it too well
JSON_GRAMMAR = "start: %json " + json.dumps({**SCHEMA, "x-guidance": {"whitespace_flexible": False}})


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=CASES, ids=lambda case: case.name)
async def running(request: pytest.FixtureRequest, random_model: Path) -> AsyncIterator[tuple[EngineCase, Engine]]:
    """One engine for all tests of the module: they use handles of their own."""
    case: EngineCase = request.param
    engine = await case.start(random_model)
    yield case, engine
    await engine.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=MODEL_CASES, ids=lambda case: case.name)
async def model(request: pytest.FixtureRequest, random_model: Path) -> AsyncIterator[Engine]:
    """An engine whose output depends on the tokens before."""
    engine = await request.param.start(random_model)
    yield engine
    await engine.close()


@pytest.fixture(scope="module")
def tokenizer(random_model: Path) -> GgufTokenizer:
    return GgufTokenizer(str(random_model))


def open_chain(
    engine: Engine, tokens: Sequence[int] = (), *, parent: KvHandle | None = None, tenant: Tenant = LOCAL
) -> KvHandle:
    return engine.open(TokenView.of(tokens), parent=parent, tenant=tenant)


async def play(case: EngineCase, handle: KvHandle, keep: int, new: Sequence[int], sampling: Sampling) -> Outcome:
    return await generate(handle, keep, new, sampling, turn=case.turn)


# --- callbacks ---


async def test_on_end_comes_once_and_last_and_neither_callback_before_generate_returns(
    running: tuple[EngineCase, Engine],
) -> None:
    case, engine = running
    handle = open_chain(engine)
    _, outcome = begin(handle, 0, case.prompt, greedy(3), turn=case.turn)
    assert outcome.calls == []
    await finished(outcome)
    assert outcome.calls.count("end") == 1
    assert outcome.calls[-1] == "end"


async def test_max_tokens_0_prefills_and_samples_nothing(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    outcome = await play(case, open_chain(engine, tenant=Tenant("prefill")), 0, case.prompt, greedy(0))
    assert outcome.calls == ["end"]
    assert outcome.reason is EndReason.LENGTH
    assert outcome.usage.held_tokens == outcome.usage.prompt_tokens == len(case.prompt)


async def test_max_tokens_ends_the_run_with_length(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    outcome = await play(case, open_chain(engine), 0, case.prompt, greedy(7))
    assert (outcome.reason, len(outcome.ids), outcome.usage.output_tokens) == (EndReason.LENGTH, 7, 7)


async def test_the_stop_token_is_the_last_id(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    free = await play(case, open_chain(engine), 0, case.prompt, greedy(8))
    stop = free.ids[4]
    stopped = await play(case, open_chain(engine), 0, case.prompt, greedy(8, [stop]))
    assert stopped.reason is EndReason.STOP
    assert stopped.ids == free.ids[: free.ids.index(stop) + 1]


async def test_a_prompt_over_the_context_ends_with_length_and_says_so(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    outcome = await play(case, open_chain(engine), 0, [1] * (engine.context_tokens + 1), greedy(1))
    assert (outcome.reason, outcome.ids) == (EndReason.LENGTH, [])
    assert outcome.detail


# --- what the handle holds ---


async def test_the_next_turn_finds_in_cache_all_that_was_held(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    handle = open_chain(engine, tenant=Tenant("turns"))
    first = await play(case, handle, 0, case.prompt, greedy(6))
    assert (first.usage.prompt_tokens, first.usage.cached_tokens) == (len(case.prompt), 0)
    chain = [*case.prompt, *first.ids]
    held = first.usage.held_tokens
    assert len(case.prompt) <= held <= len(chain)
    second = await play(case, handle, held, [*chain[held:], 60, 70], greedy(6))
    assert (second.usage.prompt_tokens, second.usage.cached_tokens) == (len(chain) + 2, held)


async def test_a_handle_that_holds_less_than_keep_needs_the_full_prompt(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    outcome = await play(case, open_chain(engine), 5, case.prompt, greedy(1))
    assert (outcome.reason, outcome.ids) == (EndReason.NEEDS_FULL_PROMPT, [])


async def test_a_handle_opened_for_a_chain_behaves_as_if_it_held_it(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    whole = await play(case, open_chain(engine, tenant=Tenant("a")), 0, [*case.prompt, 60], greedy(5))
    opened = await play(case, open_chain(engine, case.prompt, tenant=Tenant("b")), len(case.prompt), [60], greedy(5))
    assert opened.ids == whole.ids
    assert opened.usage.prompt_tokens == len(case.prompt) + 1


# --- abort and close ---


async def test_abort_ends_the_run_and_the_handle_goes_on(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    handle = open_chain(engine, tenant=Tenant("abort"))
    run, outcome = begin(handle, 0, case.prompt, greedy(4000), turn=case.turn, on_step=lambda: run.abort())  # noqa: PLW0108  # `run` is made by this call
    await finished(outcome)
    assert outcome.reason is EndReason.ABORTED
    assert outcome.calls.count("end") == 1
    run.abort()  # after the end: no effect
    if handle.survives_abort:
        held = outcome.usage.held_tokens
        chain = [*case.prompt, *outcome.ids]
        after = await play(case, handle, held, [*chain[held:], 60], greedy(2))
        assert after.usage.cached_tokens == held > 0


async def test_closing_a_handle_aborts_its_run_and_is_idempotent(running: tuple[EngineCase, Engine]) -> None:
    case, engine = running
    handle = open_chain(engine)
    _, outcome = begin(handle, 0, case.prompt, greedy(4000), turn=case.turn, on_step=handle.close)
    await finished(outcome)
    handle.close()
    assert outcome.reason is EndReason.ABORTED
    assert outcome.calls.count("end") == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_closing_the_engine_aborts_every_run_and_is_idempotent(case: EngineCase, random_model: Path) -> None:
    engine = await case.start(random_model)
    _, outcome = begin(open_chain(engine), 0, case.prompt, greedy(4000), turn=case.turn)
    await engine.close()
    await engine.close()
    await finished(outcome)
    assert outcome.reason is EndReason.ABORTED


# --- a model's output depends on nothing but its tokens ---


async def test_a_rewound_chain_goes_on_as_if_the_tail_had_never_been(model: Engine) -> None:
    handle = open_chain(model, tenant=Tenant("rewind"))
    first = await generate(handle, 0, [1, 2, 3, 4], greedy(8))
    rewound = await generate(handle, 3, [9, 8], greedy(8))
    fresh = await generate(open_chain(model, tenant=Tenant("fresh")), 0, [1, 2, 3, 9, 8], greedy(8, top_logprobs=2))
    assert_same_greedy(fresh, rewound)
    assert first.ids != fresh.ids
    if handle.can_rewind:
        assert rewound.usage.cached_tokens == 3


async def test_the_same_prompt_again_samples_the_same(model: Engine) -> None:
    handle = open_chain(model, tenant=Tenant("again"))
    first = await generate(handle, 0, [1, 2, 3], greedy(8))
    again = await generate(handle, 3, [], greedy(8))
    assert again.ids == first.ids


async def test_a_fork_and_its_parent_go_on_like_chains_of_their_own(model: Engine) -> None:
    tenant = Tenant("fork")
    parent = open_chain(model, tenant=tenant)
    prompt = list(range(30, 90))
    await generate(parent, 0, prompt, greedy(0))
    fork = open_chain(model, prompt, parent=parent, tenant=tenant)
    forked, unforked = await asyncio.gather(
        generate(fork, len(prompt), [5], greedy(12)), generate(parent, len(prompt), [6], greedy(12))
    )
    for last, outcome in ((5, forked), (6, unforked)):
        alone = open_chain(model, tenant=Tenant(f"alone {last}"))
        assert_same_greedy(await generate(alone, 0, [*prompt, last], greedy(12, top_logprobs=2)), outcome)
    if parent.can_fork:
        assert forked.usage.cached_tokens == len(prompt)


async def test_chains_that_run_together_sample_what_they_sample_alone(model: Engine) -> None:
    prompts = [[n, 2 * n, 3 * n] * (n % 5 + 1) for n in range(1, 9)]
    once = greedy(20, top_logprobs=2)
    alone = [await generate(open_chain(model, tenant=Tenant("one")), 0, prompt, once) for prompt in prompts]
    tenants = [Tenant(f"many {n}") for n in range(len(prompts))]
    together = await asyncio.gather(
        *(
            generate(open_chain(model, tenant=tenant), 0, prompt, greedy(20))
            for tenant, prompt in zip(tenants, prompts, strict=True)
        )
    )
    for reference, outcome in zip(alone, together, strict=True):
        assert_same_greedy(reference, outcome)


async def test_the_prefix_of_a_closed_chain_is_reused_by_its_tenant_and_by_no_other(model: Engine) -> None:
    prompt = list(range(100, 140))
    first = open_chain(model, tenant=Tenant("mine"))
    await generate(first, 0, prompt, greedy(0))
    first.close()
    other = await generate(open_chain(model, tenant=Tenant("other")), 0, [*prompt, 7], greedy(1))
    mine = await generate(open_chain(model, tenant=Tenant("mine")), 0, [*prompt, 7], greedy(1))
    assert (other.usage.cached_tokens, mine.usage.cached_tokens) == (0, len(prompt))
    assert other.ids == mine.ids


async def test_what_a_chain_says_does_not_depend_on_the_chains_that_idle_beside_it(model: Engine) -> None:
    others = [open_chain(model, tenant=Tenant("others")) for _ in range(12)]

    async def play(name: str, *, among_others: bool) -> list[Outcome]:
        handle = open_chain(model, tenant=Tenant(name))
        chain: list[int] = []
        held = 0
        turns: list[Outcome] = []
        for turn in range(3):
            chain += [10 + turn] * 300
            outcome = await generate(handle, held, chain[held:], greedy(40, top_logprobs=2))
            assert outcome.usage.cached_tokens == held
            chain += outcome.ids
            held = outcome.usage.held_tokens
            turns.append(outcome)
            for number, other in enumerate(others if among_others else ()):
                prompt = [20 + number] * 200
                assert (await generate(other, 0, prompt, greedy(20))).reason is EndReason.LENGTH
        return turns

    alone = await play("alone", among_others=False)
    for expected, found in zip(alone, await play("among", among_others=True), strict=True):
        assert_same_greedy(expected, found)


# --- sampling ---


async def test_a_seed_reproduces_and_another_one_does_not(model: Engine) -> None:
    def drawn(seed: int) -> Sampling:
        return Sampling(max_tokens=20, temperature=1.5, top_p=0.95, seed=seed)

    outcomes = [await generate(open_chain(model), 0, [1, 2, 3], drawn(seed)) for seed in (7, 7, 8)]
    assert outcomes[0].ids == outcomes[1].ids != outcomes[2].ids


async def test_log_probabilities_come_with_every_token_when_asked_for(model: Engine) -> None:
    sampling = Sampling(max_tokens=4, temperature=0.0, top_logprobs=3)
    outcome = await generate(open_chain(model), 0, [1, 2, 3], sampling)
    assert [entry.token for entry in outcome.logprobs] == outcome.ids
    for entry in outcome.logprobs:
        assert entry.top[0] == (entry.token, entry.logprob)  # greedy: the sampled one is the likeliest
        assert [logprob for _, logprob in entry.top] == sorted((logprob for _, logprob in entry.top), reverse=True)
        assert len(entry.top) == 3
        assert entry.logprob <= 0


async def test_log_probabilities_do_not_come_unasked(model: Engine) -> None:
    assert (await generate(open_chain(model), 0, [1, 2, 3], greedy(4))).logprobs == []


# --- constraints ---


async def test_a_constrained_run_writes_json_of_the_schema_whatever_the_prompt(
    model: Engine, tokenizer: GgufTokenizer
) -> None:
    numbers = random.Random(1)
    for seed in range(10):
        prompt = [numbers.randrange(256) for _ in range(numbers.randrange(1, 30))]
        sampling = Sampling(max_tokens=400, temperature=1.0, seed=seed, stop_tokens=tokenizer.stop_tokens)
        outcome = await generate(open_chain(model), 0, prompt, sampling, constraint=Constraint(JSON_GRAMMAR))
        assert outcome.reason is EndReason.STOP
        assert outcome.ids[-1] in tokenizer.stop_tokens
        value = json.loads(b"".join(tokenizer.piece(token) for token in outcome.ids[:-1]))
        assert set(value) == {"name", "count"}
        assert value["name"] in ("read", "write")
        assert isinstance(value["count"], int)


async def test_a_triggered_constraint_rules_only_what_follows_its_trigger(
    model: Engine, tokenizer: GgufTokenizer
) -> None:
    free = await generate(open_chain(model), 0, [1, 2, 3], greedy(12))
    constraint = Constraint('start: "true"', trigger=free.ids[3], once=True)
    stop = min(tokenizer.stop_tokens)
    outcome = await generate(open_chain(model), 0, [1, 2, 3], greedy(40, [stop]), constraint=constraint)
    before = outcome.ids[: outcome.ids.index(free.ids[3]) + 1]
    ruled = outcome.ids[len(before) :]
    assert before == free.ids[: len(before)]
    assert b"".join(tokenizer.piece(token) for token in ruled[:-1]) == b"true"
    assert (ruled[-1], outcome.reason) == (stop, EndReason.STOP)


async def test_a_constraint_without_once_lets_text_be_free_again_after_it(
    model: Engine, tokenizer: GgufTokenizer
) -> None:
    free = await generate(open_chain(model), 0, [1, 2, 3], greedy(4))
    constraint = Constraint('start: "true"', trigger=free.ids[3])
    outcome = await generate(open_chain(model), 0, [1, 2, 3], greedy(60), constraint=constraint)
    assert outcome.reason is EndReason.LENGTH
    start = outcome.ids.index(free.ids[3]) + 1
    assert b"".join(map(tokenizer.piece, outcome.ids[start:])).startswith(b"true")


async def test_a_grammar_reaches_marked_tokens_by_id(model: Engine, tokenizer: GgufTokenizer) -> None:
    first, last = tokenizer.special("<tool_call>"), tokenizer.special("</tool_call>")
    constraint = Constraint(f'start: <[{first}]> "null" <[{last}]>')
    sampling = greedy(20, sorted(tokenizer.stop_tokens))
    outcome = await generate(open_chain(model), 0, [1, 2, 3], sampling, constraint=constraint)
    assert (outcome.ids[0], outcome.ids[-2]) == (first, last)
    assert b"".join(map(tokenizer.piece, outcome.ids[1:-2])) == b"null"


@pytest.mark.parametrize(
    "grammar", ["start: unknown_rule", 'start: "', "%json {", "", 'start: %json {"type": "nothing"}']
)
async def test_a_grammar_that_does_not_compile_ends_with_constraint_and_a_detail(model: Engine, grammar: str) -> None:
    outcome = await generate(open_chain(model), 0, [1, 2, 3], greedy(4), constraint=Constraint(grammar))
    assert (outcome.reason, outcome.ids) == (EndReason.CONSTRAINT, [])
    assert outcome.detail
