"""What every `Format` promises, run over every format."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contracts.format_case import FormatCase
from tests.contracts.formats import CASES, examples_of
from tests.support.conversations import plain_texts
from tests.support.dialogues import dialogues, numbered, outputs_for, responses

from hotloop.errors import UnsupportedValue
from hotloop.protocol.items import (
    CustomToolCall,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputText,
    Item,
    Message,
    OutputText,
    Reasoning,
    ReasoningText,
    text_of,
)
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import Extension, Format, ItemClosed, ItemDelta, ItemOpened, ParsedEvent, RenderState

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


Check = Callable[[FormatCase, st.DataObject], None]
Test = Callable[[FormatCase], None]


def for_any(*, long: int) -> Callable[[Check], Test]:
    """A property of each format on as many examples as `examples_of` says; `long` of them a family in `make test-long`.

    Measured with four other processes on two cores: GLM's 10,000 of both properties that have as many take 183 s of CPU. Nine
    families make that 27 minutes, and the six other properties, 32 ms an example of all six, 2 more at 500 a family: some
    15 minutes on two such cores.
    """

    def decorate(check: Check) -> Test:
        def test(case: FormatCase) -> None:
            is_long = settings.get_current_profile_name() == "long"
            count = examples_of(case, quick=settings().max_examples, long=long if is_long else None)

            @settings(max_examples=count)
            @given(data=st.data())
            def holds(data: st.DataObject) -> None:
                check(case, data)

            holds()

        test.__name__ = check.__name__
        test.__doc__ = check.__doc__
        return test

    return decorate


class Chain:
    """A chain grown by a format the way a turn grows it."""

    def __init__(self, case: FormatCase, format: Format | None = None) -> None:
        self.tokenizer = case.shared_tokenizer
        self.format = format or case.shared_format
        self.context = case.context
        self.items: list[Item] = []
        self.tokens = array("I")
        self.state: RenderState = None
        self.rewinds: list[str] = []
        self._ends: list[int] = [0]  # checkpoints so far
        self._apply(case.start if format is None else format.begin(case.context))

    def give(self, items: Sequence[Item]) -> Extension:
        extension = self.format.extend(self.state, len(self.tokens), items)
        assert isinstance(extension, Extension)
        self.items += items
        self._apply(extension)
        return extension

    def answer(self, items: Sequence[Item]) -> "array[int]":
        sampled = self.format.encode_items(self.context, items)
        self._apply(self.format.commit(self.state, len(self.tokens), sampled, items))
        self.items += items
        return sampled

    def _apply(self, extension: Extension) -> None:
        keep = extension.keep
        assert 0 <= keep <= len(self.tokens)
        assert (extension.reason is None) == (keep == len(self.tokens))
        if extension.reason is not None:
            self.rewinds.append(extension.reason)
            # `message_reopened` takes back only what closed the last message, which stands behind its last item.
            assert keep in self._ends or (extension.reason == "message_reopened" and keep < self._ends[-1])
        del self.tokens[keep:]
        self.tokens.extend(extension.tokens)
        self.state = extension.state
        assert all(keep < one <= len(self.tokens) for one in extension.checkpoints)
        assert list(extension.checkpoints) == sorted(extension.checkpoints)
        self._ends = [one for one in self._ends if one <= keep] + [*extension.checkpoints]

    @property
    def ends_in_answer(self) -> bool:
        match self.items[-1:]:
            case [FunctionCall() | CustomToolCall() | Reasoning() | Message(role="assistant")]:
                return True
            case _:
                return False

    @property
    def text(self) -> str:
        return self.tokenizer.decode(self.tokens)

    @property
    def prompt_text(self) -> str:
        return self.text + self.tokenizer.decode(self.format.generation_prompt(self.state))


def parse(
    format: Format, case: FormatCase, feeds: Sequence[Sequence[int]], *, complete: bool = True
) -> list[ParsedEvent]:
    parser = format.parser(case.context)
    events = [event for ids in feeds for event in parser.feed(ids, None)]
    return merged([*events, *parser.finish(complete=complete)])


def merged(events: Sequence[ParsedEvent]) -> list[ParsedEvent]:
    """The events with neighbouring deltas put together."""
    out: list[ParsedEvent] = []
    for is_delta, group in groupby(events, lambda event: isinstance(event, ItemDelta)):
        if is_delta:
            deltas = [event for event in group if isinstance(event, ItemDelta)]
            text = "".join(delta.text for delta in deltas)
            out.append(ItemDelta(text, tuple(one for delta in deltas for one in delta.logprobs)))
        else:
            out += group
    return out


def events_of(items: Sequence[Item]) -> list[ParsedEvent]:
    """What a parser has to report for `items`."""
    events: list[ParsedEvent] = []
    for item in items:
        match item:
            case Reasoning():
                opened, text = ItemOpened("reasoning"), text_of(item.content or [])
            case Message():
                opened, text = ItemOpened("message", phase=item.phase), text_of(item.content)
            case FunctionCall():
                opened, text = ItemOpened("function_call", item.name), item.arguments
            case CustomToolCall():
                opened, text = ItemOpened("custom_tool_call", item.name), item.input
            case _:
                raise AssertionError(item)
        events += [opened, *([ItemDelta(text)] if text else []), ItemClosed()]
    return events


@for_any(long=10_000)
def test_the_chain_reads_like_a_full_render_after_any_turns(case: FormatCase, data: st.DataObject) -> None:
    chain = Chain(case)
    if case.shape.anything:
        assert chain.prompt_text == case.render([], generate=True)
    for kind, items in data.draw(dialogues(case.shape, case.marks, custom=case.has_custom_tool)):
        if kind == "input":
            chain.give(items)
        else:
            if chain.ends_in_answer:  # two answers without input between them stay two messages
                chain.give([Message(role="user", content="go on")])
            chain.answer(items)
            chain.give([])  # what a family takes back because of an answer is taken back by now
        assert chain.text == case.render(chain.items)
        assert chain.prompt_text == case.render(chain.items, generate=True)


@for_any(long=500)
def test_tokens_equal_a_full_render_when_both_sides_tokenize_the_items(case: FormatCase, data: st.DataObject) -> None:
    if not case.seams_are_marks:
        pytest.skip("items of this family end in the middle of plain text")
    one, whole = Chain(case), Chain(case)
    for turn in range(data.draw(st.integers(1, 4))):
        items: list[Item] = [Message(role="user", content=data.draw(plain_texts.filter(case.shape.question)))]
        if case.shape.calls and data.draw(st.booleans()):
            call_id = case.shape.call_id(turn, "shell")
            items.append(FunctionCall(call_id=call_id, name="shell", arguments="{}"))
            items.append(FunctionCallOutput(call_id=call_id, output=data.draw(plain_texts)))
        if not case.shape.questions_in_a_row or data.draw(st.booleans()):
            items.append(Message(role="assistant", content=[OutputText(text="it is so")]))
        one.give(items)
    whole.give(one.items)
    assert one.tokens == whole.tokens
    assert one.tokens == one.tokenizer.whole(case.render(one.items))


@for_any(long=500)
def test_any_number_of_outputs_in_one_turn_reads_like_a_full_render(case: FormatCase, data: st.DataObject) -> None:
    shape = case.shape
    if not (shape.calls and shape.parallel):
        pytest.skip("this template writes one call at most")
    chain = Chain(case)
    count = data.draw(st.integers(2, 8))
    call = FunctionCall(call_id="c", name="shell", arguments='{"zeta": 1}')
    calls, _ = numbered([call] * count, shape)
    thought = [Reasoning(content=[ReasoningText(text="hm")])] if shape.always_reasons else []
    chain.give([Message(role="user", content="go"), *thought, *calls])
    new = outputs_for(calls, lambda: data.draw(plain_texts))
    if shape.question_after_outputs and data.draw(st.booleans()):
        new.append(Message(role="user", content=data.draw(plain_texts.filter(shape.question))))
    chain.give(new)
    assert chain.text == case.render(chain.items)
    if case.seams_are_marks:
        assert chain.tokens == chain.tokenizer.whole(chain.text)


@for_any(long=500)
def test_sampled_ids_are_kept_verbatim_behind_the_generation_prompt(case: FormatCase, data: st.DataObject) -> None:
    chain = Chain(case)
    chain.give([Message(role="user", content="go")])
    before, prompt = chain.tokens[:], chain.format.generation_prompt(chain.state)
    items, _ = numbered(data.draw(responses(case.shape, case.marks, custom=case.has_custom_tool)), case.shape)
    sampled = chain.answer(items)
    body = sampled if case.keeps_stop_token else sampled[:-1]
    assert chain.tokens[: len(before) + len(prompt) + len(body)] == before + prompt + body
    outputs = outputs_for(items, lambda: "done")
    is_answer = any(isinstance(item, Message) for item in items)
    if outputs and not (is_answer and case.drops_at_answer):
        chain.give(outputs)
        assert chain.tokens[: len(before) + len(prompt) + len(body)] == before + prompt + body


@for_any(long=10_000)
def test_parsing_what_was_rendered_gives_the_items_back(case: FormatCase, data: st.DataObject) -> None:
    format = case.shared_format
    items, _ = numbered(data.draw(responses(case.shape, case.marks, custom=case.has_custom_tool)), case.shape)
    ids = format.encode_items(case.context, items)
    assert ids[-1] in format.stop_tokens
    assert parse(format, case, [ids]) == events_of(items)


@for_any(long=500)
def test_any_chunking_of_any_ids_gives_the_same_events(case: FormatCase, data: st.DataObject) -> None:
    tokenizer, format = case.shared_tokenizer, case.shared_format
    items, _ = numbered(data.draw(responses(case.shape, case.marks, custom=case.has_custom_tool)), case.shape)
    ids = list(format.encode_items(case.context, items))
    noise = st.integers(0, tokenizer.vocabulary_size - 1)
    specials = st.sampled_from(sorted(tokenizer.special_ids.values()))
    for at, token in data.draw(st.lists(st.tuples(st.integers(0, len(ids)), noise | specials), max_size=4)):
        ids.insert(at, token)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(ids)), max_size=5)))
    chunks = [ids[start:stop] for start, stop in pairwise([0, *cuts, len(ids)])]
    complete = data.draw(st.booleans())
    one_by_one = parse(format, case, [[token] for token in ids], complete=complete)
    assert parse(format, case, chunks, complete=complete) == one_by_one
    assert parse(format, case, [ids], complete=complete) == one_by_one
    assert _is_well_formed(one_by_one)


@for_any(long=500)
def test_logprobs_of_message_text_survive_any_chunking(case: FormatCase, data: st.DataObject) -> None:
    format = case.shared_format
    items, _ = numbered(data.draw(responses(case.shape, case.marks, custom=case.has_custom_tool)), case.shape)
    ids = format.encode_items(case.context, items)
    logprobs = [TokenLogprob(token, -0.1 * index) for index, token in enumerate(ids)]
    whole, split = format.parser(case.context), format.parser(case.context)
    one = merged([*whole.feed(ids, logprobs), *whole.finish(complete=True)])
    many = [event for index, token in enumerate(ids) for event in split.feed([token], logprobs[index : index + 1])]
    assert merged([*many, *split.finish(complete=True)]) == one
    assert whole.reasoning_tokens == split.reasoning_tokens


@for_any(long=500)
def test_nothing_a_user_writes_becomes_a_control_token(case: FormatCase, data: st.DataObject) -> None:
    chain, quiet = Chain(case), Chain(case)
    specials = set(chain.tokenizer.special_ids.values())
    attack = data.draw(
        st.lists(st.sampled_from(list(chain.tokenizer.special_ids)), min_size=1, max_size=3).map("".join)
    )
    call_id = case.shape.call_id(0, "shell")
    for content in (attack, "harmless"):
        target = chain if content == attack else quiet
        asked: list[Item] = [Message(role="user", content="x" + content)]
        if case.shape.developer:
            asked.append(Message(role="developer", content=content))
        target.give(asked)
        if case.shape.calls:
            arguments = f'"{content}"' if case.shape.anything else f'{{"alpha": "{content}"}}'
            target.give([FunctionCall(call_id=call_id, name="shell", arguments=arguments)])
            target.give([FunctionCallOutput(call_id=call_id, output=content)])
        start = target.format.begin(replace(case.context, instructions=content))
        target.tokens.extend(start.tokens)
    count = [sum(token in specials for token in one.tokens) for one in (chain, quiet)]
    assert count[0] == count[1]


def test_extending_costs_the_same_however_long_the_chain_is(case: FormatCase) -> None:
    if not case.shape.calls:
        pytest.skip("this template writes no calls")
    costs: list[tuple[int, int]] = []
    chain = Chain(case, case.make(spy := case.tokenizer()))
    for turn in range(50):
        if turn == 0:
            chain.give([Message(role="user", content="go")])
        call_id = case.shape.call_id(0, "shell")
        chain.answer([FunctionCall(call_id=call_id, name="shell", arguments='{"zeta": 1}')])
        before = (spy.encode_calls, spy.encoded_chars)
        chain.give([FunctionCallOutput(call_id=call_id, output="the result")])
        costs.append((spy.encode_calls - before[0], spy.encoded_chars - before[1]))
    assert len(set(costs[1:])) == 1 or case.rewrites
    assert case.rewrites or chain.rewinds == []


def test_output_without_items_leaves_nothing_behind(case: FormatCase) -> None:
    chain = Chain(case)
    chain.give([Message(role="user", content="go")])
    before = chain.tokens[:]
    extension = chain.format.commit(chain.state, len(before), [min(chain.format.stop_tokens)], [])
    assert (extension.keep, len(extension.tokens), extension.state) == (len(before), 0, chain.state)


def test_output_cut_in_the_middle_is_closed_by_the_format(case: FormatCase) -> None:
    chain = Chain(case)
    asked: list[Item] = [Message(role="user", content="go")]
    chain.give(asked)
    said: list[Item] = [Message(role="assistant", content=[OutputText(text="half a")])]
    if case.shape.always_reasons:
        said.insert(0, Reasoning(content=[ReasoningText(text="hm")]))
    cut = [token for token in chain.format.encode_items(case.context, said) if token not in chain.format.stop_tokens]
    extension = chain.format.commit(chain.state, len(chain.tokens), cut, said)
    text = chain.tokenizer.decode(chain.tokens[: extension.keep] + extension.tokens)
    assert text == case.render([*asked, *said])


def test_what_is_not_text_is_refused_by_name(case: FormatCase) -> None:
    chain = Chain(case)
    items = [
        Message(role="user", content="see"),
        Message(role="user", content=[InputText(text="this"), InputImage(image_url="data:")]),
    ]
    with pytest.raises(UnsupportedValue) as refused:
        chain.give(items)
    assert refused.value.param == "input[1].content[1]"


def _is_well_formed(events: Sequence[ParsedEvent]) -> bool:
    is_open = False
    for event in events:
        if isinstance(event, ItemOpened) == is_open:
            return False
        if isinstance(event, ItemDelta) and not event.text:
            return False
        is_open = not isinstance(event, ItemClosed)
    return not is_open
