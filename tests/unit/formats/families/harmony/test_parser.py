import pytest
from tests.support.conversations import TOOLS
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import HARMONY_IDS, SpyTokenizer

from hotloop.formats.families.harmony.format import Harmony
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer(tuple(HARMONY_IDS))
HARMONY = Harmony(TOKENIZER)
ANALYSIS = "<|channel|>analysis<|message|>"
FINAL = "<|channel|>final<|message|>"
NEXT = "<|end|><|start|>assistant"
JSON = '{"zeta": 1}'


def ids(text: str) -> list[int]:
    return list(SpyTokenizer(TOKENIZER, tuple(HARMONY_IDS)).whole(text))


def read(text: str, *, complete: bool = True) -> list[tuple[str, str]]:
    """The items in `text` as (kind, kind:name or kind:phase, text); `!` marks incomplete ones."""
    parser = HARMONY.parser(PromptContext(tools=TOOLS))
    events: list[ParsedEvent] = []
    for token in ids(text):
        events += parser.feed([token], None)
    found: list[tuple[str, str]] = []
    for event in [*events, *parser.finish(complete=complete)]:
        match event:
            case ItemOpened(kind, name, phase):
                found.append((":".join(filter(None, (kind, name, phase))), ""))
            case ItemDelta(text):
                found[-1] = (found[-1][0], found[-1][1] + text)
            case ItemClosed(is_complete):
                found[-1] = found[-1] if is_complete else ("!" + found[-1][0], found[-1][1])
    return found


ANSWER = "message:final_answer"
SHELL = ("function_call:shell", JSON)


def test_reasoning_preamble_and_answer() -> None:
    text = f"{ANALYSIS}hm\n{NEXT}<|channel|>commentary<|message|>I look.{NEXT}{FINAL}Done.<|return|>"
    assert read(text) == [("reasoning", "hm\n"), ("message:commentary", "I look."), (ANSWER, "Done.")]


@pytest.mark.parametrize(
    "head",
    [
        " to=functions.shell<|channel|>commentary json",
        " to=functions.shell<|channel|>commentary <|constrain|>json",
        "<|channel|>commentary to=functions.shell <|constrain|>json",
        "<|channel|>commentary to=functions.shell<|constrain|>json",
        "<|channel|>commentary to=functions.shell code",
        "<|channel|>analysis to=functions.shell json",
        "<|channel|>commentary<|channel|>commentary to=functions.shell json",
        "<|channel|>commentary to=shell json",
    ],
)
def test_a_call_in_every_spelling_of_its_head(head: str) -> None:
    assert read(f"{head}<|message|>{JSON}<|call|>") == [SHELL]
    assert read(f"{ANALYSIS}x{NEXT}{head}<|message|>{JSON}<|call|>") == [("reasoning", "x"), SHELL]


def test_several_calls_in_one_output() -> None:
    call = f" to=functions.shell<|channel|>commentary json<|message|>{JSON}<|call|>"
    python = ' to=functions.python<|channel|>commentary json<|message|>{"input": "a\\nb"}<|call|>'
    assert read(f"{call}<|start|>assistant{python}") == [SHELL, ("custom_tool_call:python", "a\nb")]


def test_an_unknown_tool_comes_out_as_a_call() -> None:
    assert read("<|channel|>commentary to=browser.open json<|message|>{}<|call|>") == [
        ("function_call:browser.open", "{}")
    ]


def test_a_call_without_arguments_has_none() -> None:
    assert read(" to=functions.bare<|channel|>commentary json<|message|><|call|>") == [("function_call:bare", "{}")]
    assert read(" to=functions.bare<|channel|>commentary json<|call|>") == [("function_call:bare", "{}")]
    assert read(" to=functions.python<|channel|>commentary json<|message|><|call|>") == [
        ("custom_tool_call:python", "")
    ]


def test_a_recipient_that_is_no_tool_makes_no_call() -> None:
    assert read("<|channel|>final to=user<|message|>hi<|return|>") == [(ANSWER, "hi")]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (f"{FINAL}hal", [("!" + ANSWER, "hal")]),
        (f"{ANALYSIS}hal", [("!reasoning", "hal")]),
        (f" to=functions.shell<|channel|>commentary json<|message|>{JSON[:4]}", [("!function_call:shell", JSON[:4])]),
        (" to=functions.shell<|channel|>comm", [("!function_call:shell", "")]),
        ("<|channel|>comm", []),
        (f"{ANALYSIS}x{NEXT}", [("reasoning", "x")]),
        (f"{ANALYSIS}x<|end|>", [("reasoning", "x")]),
        (f"{ANALYSIS}x<|end|><|start|>assis", [("reasoning", "x")]),
        ("", []),
    ],
)
def test_output_that_stops_anywhere_closes_what_is_open(text: str, items: list[tuple[str, str]]) -> None:
    assert read(text, complete=False) == items


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("Hello there<|return|>", [(ANSWER, "Hello there")]),
        ("to<|return|>", [(ANSWER, "to")]),
        ("to be\n\n<|channel|>final<|return|>", [(ANSWER, "to be\n\n<|channel|>final")]),
        (f"{ANALYSIS}x<|end|>loose<|return|>", [("reasoning", "x"), (ANSWER, "loose")]),
        (f"{ANALYSIS}x<|end|><|start|>user<|message|>hi<|return|>",
         [("reasoning", "x"), (ANSWER, "<|start|>user<|message|>hi")]),
        ("<|channel|>commentary to=functions. json<|message|>x<|call|>",
         [(ANSWER, "<|channel|>commentary to=functions. json<|message|>x")]),
        (f"{FINAL}a<|constrain|>b<|message|>c<|channel|>d<|return|>", [(ANSWER, "a<|constrain|>b<|message|>c<|channel|>d")]),
        ("<|message|>bare<|return|>", [(ANSWER, "bare")]),
        ("<|constrain|>json<|message|>x<|return|>", [(ANSWER, "<|constrain|>json<|message|>x")]),
        ("<|channel|>" + "x" * 600 + "<|return|>", [(ANSWER, "<|channel|>" + "x" * 600)]),
        (f"{FINAL}<|return|>", []),
        (f"{ANALYSIS}<|end|><|start|>assistant<|channel|>final<|return|>", []),
        (f"{FINAL}a<|start|>assistant{FINAL}b<|return|>", [(ANSWER, "a"), (ANSWER, "b")]),
    ],
)  # fmt: skip
def test_what_is_malformed_is_never_swallowed(text: str, items: list[tuple[str, str]]) -> None:
    assert read(text) == items


def test_a_character_split_at_a_mark_is_not_lost() -> None:
    broken = [*ids(f"{FINAL}a"), *TOKENIZER.encode("é")[:1], *ids("<|return|>")]
    parser = HARMONY.parser(PromptContext())
    deltas = [event.text for event in [*parser.feed(broken, None)] if isinstance(event, ItemDelta)]
    assert "".join(deltas).startswith("a")


def test_reasoning_tokens_are_the_analysis_messages() -> None:
    parser = HARMONY.parser(PromptContext())
    parser.feed(ids(f"{ANALYSIS}hm<|end|>"), None)
    assert parser.reasoning_tokens == len(ids(f"{ANALYSIS}hm<|end|>"))
    parser.feed(ids(f"<|start|>assistant{FINAL}yes<|return|>"), None)
    assert parser.reasoning_tokens == len(ids(f"{ANALYSIS}hm<|end|>"))


def test_log_probabilities_come_with_message_text_only() -> None:
    text = f"{ANALYSIS}hm{NEXT}{FINAL}yes"
    sampled = ids(text)
    parser = HARMONY.parser(PromptContext())
    events = parser.feed(sampled, [TokenLogprob(token, -0.5) for token in sampled])
    deltas = [event for event in events if isinstance(event, ItemDelta)]
    assert [len(delta.logprobs) for delta in deltas] == [0, len(ids("yes"))]
