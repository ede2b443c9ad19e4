import pytest
from tests.support.conversations import TOOLS
from tests.support.toy_tokenizer import ToyTokenizer
from tests.support.vocabularies import MISTRAL_MARKS, SpyTokenizer

from hotloop.formats.families.mistral.format import Mistral
from hotloop.formats.families.mistral.text import V3, V11, V13, V13_THINKING, Version
from hotloop.seams.engine import TokenLogprob
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent
from hotloop.seams.prompt import PromptContext

TOKENIZER = ToyTokenizer(MISTRAL_MARKS)
JSON = '{"zeta": 1}'
SHELL = ("function_call:shell", JSON)
PYTHON = ("custom_tool_call:python", "a\nb")
MARKED = (V11, V13, V13_THINKING)
marked = pytest.mark.parametrize("version", MARKED, ids=lambda version: version.name)


def ids(text: str) -> list[int]:
    return list(SpyTokenizer(TOKENIZER, MISTRAL_MARKS).whole(text))


def read(version: Version, text: str, *, complete: bool = True) -> list[tuple[str, str]]:
    """The items in `text` as (kind or kind:name, text); `!` marks incomplete ones."""
    parser = Mistral(TOKENIZER, version).parser(PromptContext(tools=TOOLS))
    events: list[ParsedEvent] = []
    for token in ids(text):
        events += parser.feed([token], None)
    found: list[tuple[str, str]] = []
    for event in [*events, *parser.finish(complete=complete)]:
        match event:
            case ItemOpened(kind, name):
                found.append((f"{kind}:{name}" if name else kind, ""))
            case ItemDelta(text):
                found[-1] = (found[-1][0], found[-1][1] + text)
            case ItemClosed(is_complete):
                found[-1] = found[-1] if is_complete else ("!" + found[-1][0], found[-1][1])
    return found


@pytest.mark.parametrize(
    ("version", "head"),
    [
        *((version, head) for version in MARKED for head in ("shell[ARGS]", " shell [ARGS]", "shell")),
        *((V11, head) for head in ("shell[CALL_ID]abcdefgh1[ARGS]", "shell[CALL_ID]abcdefgh1")),
    ],
)
def test_calls_in_every_spelling_of_their_head(version: Version, head: str) -> None:
    one = f"[TOOL_CALLS]{head}{JSON}"
    assert read(version, f"{one}</s>") == [SHELL]
    python = '[TOOL_CALLS]python[ARGS]{"input": "a\\nb"}'
    assert read(version, f"Look:\n{one}{python}{one}</s>") == [("message", "Look:\n"), SHELL, PYTHON, SHELL]


def test_a_list_of_calls() -> None:
    shell = f'{{"name": "shell", "arguments": {JSON}, "id": "abcdefgh1"}}'
    python = '{"arguments": {"input": "a\\nb"}, "name": "python"}'
    assert read(V3, f"Look:[TOOL_CALLS][{shell}, {python}]</s>") == [("message", "Look:"), SHELL, PYTHON]
    assert read(V3, f"[TOOL_CALLS] [ {shell} ,\n{shell}\n]\n</s>") == [SHELL, SHELL]
    assert read(V3, f"[TOOL_CALLS]{shell}</s>") == [SHELL]
    assert read(V3, f"[TOOL_CALLS][{shell}][TOOL_CALLS][{python}]</s>") == [SHELL, PYTHON]


def test_think_blocks_are_reasoning_where_the_model_thinks() -> None:
    text = "[THINK]hm\n[/THINK]so[THINK]more[/THINK]\n\n[TOOL_CALLS]shell[ARGS]{}</s>"
    found = [("reasoning", "hm\n"), ("message", "so"), ("reasoning", "more"), ("function_call:shell", "{}")]
    assert read(V13_THINKING, text) == found
    assert read(V13_THINKING, "[THINK][/THINK]x</s>") == [("message", "x")]
    assert read(V13, "[THINK]hm[/THINK]so</s>") == [("message", "[THINK]hm[/THINK]so")]


@marked
def test_a_call_without_arguments_has_none(version: Version) -> None:
    assert read(version, "[TOOL_CALLS]bare[ARGS]</s>") == [("function_call:bare", "{}")]
    assert read(version, "[TOOL_CALLS]bare</s>") == [("function_call:bare", "{}")]
    assert read(version, "[TOOL_CALLS]python[ARGS]</s>") == [("custom_tool_call:python", "")]


@pytest.mark.parametrize("version", [V3, V11, V13_THINKING], ids=lambda version: version.name)
def test_an_unknown_tool_comes_out_as_a_call(version: Version) -> None:
    text = '[{"name": "no.such", "arguments": {}}]' if version is V3 else "no.such[ARGS]{}"
    assert read(version, f"[TOOL_CALLS]{text}</s>") == [("function_call:no.such", "{}")]


@pytest.mark.parametrize(
    ("version", "text", "items"),
    [
        (V13, "hal", [("!message", "hal")]),
        (V13_THINKING, "[THINK]hal", [("!reasoning", "hal")]),
        (V13, '[TOOL_CALLS]shell[ARGS]{"ze', [("!function_call:shell", '{"ze')]),
        (V13, '[TOOL_CALLS]python[ARGS]{"input": "a', [("!custom_tool_call:python", "a")]),
        (V13, "[TOOL_CALLS]she", [("!function_call:she", "")]),
        (V11, "[TOOL_CALLS]shell[CALL_ID]abc", [("!function_call:shell", "")]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {"ze', [("!function_call:shell", '{"ze')]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {}}, ', [("function_call:shell", "{}")]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {}}', [("function_call:shell", "{}")]),
        (V3, '[TOOL_CALLS][{"na', [("!message", '[TOOL_CALLS][{"na')]),
        (V3, "[TOOL_CALLS][", [("!message", "[TOOL_CALLS][")]),
        (V13, "\n ", []),
        (V13, "", []),
    ],
)
def test_output_that_stops_anywhere_closes_what_is_open(
    version: Version, text: str, items: list[tuple[str, str]]
) -> None:
    assert read(version, text, complete=False) == items


@pytest.mark.parametrize(
    ("version", "text", "items"),
    [
        (V13, "[TOOL_CALLS]I will do it</s>", [("message", "[TOOL_CALLS]I will do it")]),
        (V13, "a[TOOL_CALLS][ARGS]{}</s>", [("message", "a"), ("message", "[TOOL_CALLS][ARGS]{}")]),
        (V13, " [TOOL_CALLS]</s>", [("message", " [TOOL_CALLS]")]),
        (V13, "a[ARGS]b[/INST]</s>", [("message", "a[ARGS]b[/INST]")]),
        (V13_THINKING, "a[/THINK]b</s>", [("message", "a[/THINK]b")]),
        (V13_THINKING, "[THINK]a[THINK]b</s>", [("reasoning", "a[THINK]b")]),
        (V11, f"[TOOL_CALLS]shell[CALL_ID]{'x' * 600}</s>", [("message", f"[TOOL_CALLS]shell[CALL_ID]{'x' * 600}")]),
        (V13, "[TOOL_CALLS]shell[ARGS]{} and more</s>", [("function_call:shell", "{} and more")]),
        (V3, "[TOOL_CALLS]shell</s>", [("message", "[TOOL_CALLS]shell")]),
        (V3, '[TOOL_CALLS][{"nam": 1}]</s>', [("message", '[TOOL_CALLS][{"nam": 1}]')]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {}}] so</s>', [("function_call:shell", "{}"), ("message", "so")]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {"a" x}}]</s>', [("function_call:shell", '{"a" x}')]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {} x}]</s>',
         [("function_call:shell", "{}"), ("message", "x}]")]),
        (V3, '[TOOL_CALLS][{"name": "shell", "arguments": {"a": <b}}]</s>', [("function_call:shell", '{"a": <b}}]')]),
    ],
)  # fmt: skip
def test_what_is_malformed_is_never_swallowed(version: Version, text: str, items: list[tuple[str, str]]) -> None:
    assert read(version, text) == items


def test_reasoning_tokens_are_the_think_blocks() -> None:
    parser = Mistral(TOKENIZER, V13_THINKING).parser(PromptContext())
    parser.feed(ids("[THINK]hm[/THINK]yes</s>"), None)
    assert parser.reasoning_tokens == len(ids("[THINK]hm[/THINK]"))


def test_log_probabilities_come_with_message_text_only() -> None:
    sampled = ids("[THINK]hm[/THINK]yes[TOOL_CALLS]shell[ARGS]{}")
    parser = Mistral(TOKENIZER, V13_THINKING).parser(PromptContext())
    events = parser.feed(sampled, [TokenLogprob(token, -0.5) for token in sampled])
    deltas = [event for event in events if isinstance(event, ItemDelta)]
    assert [len(delta.logprobs) for delta in deltas] == [0, len(ids("yes")), 0]
