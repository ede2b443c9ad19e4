"""What the learned syntaxes read, and what they leave as text."""

import pytest
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats.generic.parser import GenericParser, JsonEnd, ThinkMarks
from hotloop.formats.generic.syntax import NEVER, PARTLY, CallSyntax, Literal, find_syntax
from hotloop.formats.parsing.text_decoder import PieceTable
from hotloop.protocol.tools import CustomTool
from hotloop.seams.format import ItemClosed, ItemDelta, ItemOpened, ParsedEvent

ONE, TWO = '{"hlkeyone": "hlvalueone"}', '{"hlkeytwo": "hlvaluetwo"}'


def syntax(one: str, two: str | None = None, lead: str = "") -> CallSyntax:
    found = find_syntax(one, two, lead)
    assert found is not None
    return found


HERMES = syntax(
    f'<tool_call>\n{{"name": "hlnameone", "arguments": {ONE}}}\n</tool_call>',
    f'<tool_call>\n{{"name": "hlnameone", "arguments": {ONE}}}\n</tool_call>\n'
    f'<tool_call>\n{{"name": "hlnametwo", "arguments": {TWO}}}\n</tool_call>',
    "\n",
)
ARRAY = syntax(
    f'[TOOL_CALLS][{{"name": "hlnameone", "arguments": {ONE}, "id": "hlidone00"}}]',
    f'[TOOL_CALLS][{{"name": "hlnameone", "arguments": {ONE}, "id": "hlidone00"}}, '
    f'{{"name": "hlnametwo", "arguments": {TWO}, "id": "hlidtwo00"}}]',
)
TAG = syntax(
    f"<function=hlnameone>{ONE}</function>",
    f"<function=hlnameone>{ONE}</function><function=hlnametwo>{TWO}</function>",
)
BARE = syntax(f'{{"name": "hlnameone", "parameters": {ONE}}}')
THINK = ThinkMarks("<think>", "</think>")


def read(
    text: str, syntax: CallSyntax | None = HERMES, *, think: ThinkMarks | None = None, complete: bool = True
) -> list[tuple[str, str]]:
    """(kind or kind:name, text) of each item; incomplete ones end in `…`. Every split gives the same."""
    tokenizer = ToyTokenizer(())
    ids = list(tokenizer.encode(text))
    results: list[list[tuple[str, str]]] = []
    for size in (1, 3, len(ids) or 1):
        parser = GenericParser(PieceTable(tokenizer.piece), frozenset(), think, syntax, [CustomTool(name="python")])
        events = [event for at in range(0, len(ids), size) for event in parser.feed(ids[at : at + size], None)]
        results.append(_items([*events, *parser.finish(complete=complete)]))
    assert results[0] == results[1] == results[2]
    return results[0]


def _items(events: list[ParsedEvent]) -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    for event in events:
        match event:
            case ItemOpened():
                items.append((f"{event.kind}:{event.name}" if event.name else event.kind, ""))
            case ItemDelta():
                items[-1] = (items[-1][0], items[-1][1] + event.text)
            case ItemClosed():
                items[-1] = items[-1] if event.complete else (items[-1][0], items[-1][1] + "…")
    return items


@pytest.mark.parametrize(
    ("text", "syntax", "items"),
    [
        (
            '<tool_call>\n{"name": "ls", "arguments": {"a": 1}}\n</tool_call>',
            HERMES,
            [("function_call:ls", '{"a": 1}')],
        ),
        ('<tool_call>{"name":"ls","arguments":{}}</tool_call>', HERMES, [("function_call:ls", "{}")]),
        (
            'Hi\n<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>\n'
            '<tool_call>\n{"name": "b", "arguments": {}}\n</tool_call>',
            HERMES,
            [("message", "Hi"), ("function_call:a", "{}"), ("function_call:b", "{}")],
        ),
        (
            '[TOOL_CALLS][{"name": "a", "arguments": {"x": "]}"}, "id": "k1"}, {"name": "b", "arguments": {}, "id": "k2"}]',
            ARRAY,
            [("function_call:a", '{"x": "]}"}'), ("function_call:b", "{}")],
        ),
        ('<function=a>{"x": "</function>"}</function>', TAG, [("function_call:a", '{"x": "</function>"}')]),
        ('{"name": "a", "parameters": {"x": 1}}', BARE, [("function_call:a", '{"x": 1}')]),
        ('see {"name": "a", "parameters": {}}', BARE, [("message", 'see {"name": "a", "parameters": {}}')]),
        ('{"nom": 1}', BARE, [("message", '{"nom": 1}')]),
        ("plain <tool text", HERMES, [("message", "plain <tool text")]),
        ("<tool_call>\nnothing", HERMES, [("message", "<tool_call>\nnothing")]),
        ('<tool_call>\n{"name": ""}', HERMES, [("message", '<tool_call>\n{"name": ""}')]),
        ('<tool_call>\n{"name": "ls", "args": 1}', HERMES, [("message", '<tool_call>\n{"name": "ls", "args": 1}')]),
        ('<tool_call>\n{"name": "l', HERMES, [("message", '<tool_call>\n{"name": "l')]),
        ('<tool_call>\n{"name": "ls", "arguments": }\n</tool_call>', HERMES, [("function_call:ls", "{}")]),
        (
            '<tool_call>\n{"name": "ls", "arguments": 12}\n</tool_call>x',
            HERMES,
            [("function_call:ls", "12"), ("message", "x")],
        ),
        ('<tool_call>\n{"name": "ls", "arguments": {"a": 1</tool_call>', HERMES, [("function_call:ls", '{"a": 1')]),
        ('<tool_call>\n{"name": "ls", "arguments": {}}}}\n</tool_call>', HERMES, [("function_call:ls", "{}")]),
        (
            '<tool_call>\n{"name": "python", "arguments": {"input": "a\\nb"}}\n</tool_call>',
            HERMES,
            [("custom_tool_call:python", "a\nb")],
        ),
        ("anything at all", None, [("message", "anything at all")]),
        ("", HERMES, []),
    ],
)
def test_what_is_read(text: str, syntax: CallSyntax | None, items: list[tuple[str, str]]) -> None:
    assert read(text, syntax) == items


def test_a_call_that_is_cut_off_is_incomplete() -> None:
    text = '<tool_call>\n{"name": "ls", "arguments": {"a": "b'
    assert read(text, complete=False) == [("function_call:ls", '{"a": "b…')]


@pytest.mark.parametrize(
    ("text", "is_open", "items"),
    [
        ("<think>\nhm\n</think>\n\nyes", False, [("reasoning", "hm"), ("message", "yes")]),
        ("hm\n</think>\n\nyes", True, [("reasoning", "hm"), ("message", "yes")]),
        ("\n</think>\n\nyes", True, [("message", "yes")]),
        ("hm", True, [("reasoning", "hm")]),
        ("<thi", False, [("message", "<thi")]),
        (
            '<think>a</think><tool_call>\n{"name": "ls", "arguments": {}}\n</tool_call>',
            False,
            [("reasoning", "a"), ("function_call:ls", "{}")],
        ),
    ],
)
def test_reasoning_stands_between_its_marks(text: str, is_open: bool, items: list[tuple[str, str]]) -> None:
    assert read(text, think=ThinkMarks("<think>", "</think>", is_open)) == items


def test_bare_json_behind_reasoning_is_a_call() -> None:
    assert read('<think>a</think>\n\n{"name": "ls", "parameters": {}}', BARE, think=THINK)[1] == (
        "function_call:ls",
        "{}",
    )


def test_reasoning_tokens_are_counted_with_their_marks() -> None:
    tokenizer = ToyTokenizer(("<think>", "</think>"))
    ids = [tokenizer.special_ids["<think>"], *tokenizer.encode("a b"), tokenizer.special_ids["</think>"]]
    parser = GenericParser(PieceTable(tokenizer.piece), frozenset(), THINK, HERMES, ())
    parser.feed([*ids, *tokenizer.encode("so")], None)
    assert parser.reasoning_tokens == len(ids)


def test_a_syntax_without_json_arguments_is_not_known() -> None:
    assert find_syntax("<invoke name=hlnameone><p name=hlkeyone>hlvalueone</p></invoke>", None, "") is None
    assert find_syntax(f"{ONE} for hlnameone", None, "") is None


def test_literals_forgive_white_space_and_take_any_id() -> None:
    literal = Literal('", "id": "\0"}')
    assert literal.match('","id":"abc_1"}x') == len('","id":"abc_1"}')
    assert literal.match('", "id": "ab') == PARTLY
    assert literal.match('", "no') == NEVER


@pytest.mark.parametrize(
    ("text", "length"), [('{"a": "}"}x', 10), ("[1, [2]] ", 8), ('"a\\"b" ', 6), ("true}", 4), ("12", 2)]
)
def test_the_end_of_a_json_value(text: str, length: int) -> None:
    assert JsonEnd().read(text) == length
    pieces = JsonEnd()
    assert sum(pieces.read(character) for character in text) == length
