import json

import pytest
from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats.grammar.lark_common import COMMON_TERMINALS
from hotloop.formats.grammar.lark_reader import MAX_DEPTH, MAX_GRAMMAR_CHARS, LarkError, Text, parse_lark
from hotloop.formats.grammar.lark_writer import write_lark
from hotloop.formats.grammar.regex_text import PatternError, Writing
from hotloop.seams.engine import Constraint

GRAMMARS = Grammars(ToyTokenizer())
END = GRAMMARS.tokenizer.special_ids["</tool_call>"]

PATCH = r"""
start: begin hunk+ end
begin: "*** Begin" LF      // a comment
end: "*** End" LF?         # another
hunk: "*** Update: " /(.+)/ LF change+
change: ("+" | "-" | " ") /(.*)/ LF -> line
%import common.LF
"""
SUMS = r"""
?start: sum
?sum: product
    | sum ("+" | "-") product -> add
?product: atom | product "*" atom
!atom: NUMBER | "(" sum ")" | STRING
STRING.2: /"[^"\\\n]*"/
%import common.NUMBER
%import common (WS, INT)
%ignore WS
"""

LANGUAGES: list[tuple[str, list[str], list[str]]] = [
    (PATCH, ['*** Begin\n*** Update: a"b\\c\n-\told "x"\n+é\x01\n*** End\n'], ["*** Begin\n*** End\n", "*** Begin"]),
    (SUMS, ["1+2*(3 - 4.5)\n", '"a"\t+ ("b")'], ["1+", "(1", '"a'],),
    ('start: "a" start "b" | ', ["", "aabb"], ["aab", "ba"]),
    ('start: "x"~2 ["y"] "z"~1..2 Q?\nQ: "q"i "a".."c"', ["xxz", "xxyzz", "xxzQb"], ["xz", "xxzqd"]),
    ('start: (\n  "a"\n  | "b"\n)+', ["abba"], ["c"]),
    ('start: "\\x41\\u00e9\\n\\"\\\\"', ['Aé\n"\\'], ["A"]),
    ("start: A\nA: B+ | C\nB: /x[^y]/\nC: \"c\"\n", ["xax\n", "c"], ["xy", "cc"]),
    ('start: a b\na: /[a-z ]+/\nb: /[a-z]+/ ";"', ["ab cd;"], ["ab cd"]),
    ("start: NAME\n%import common.CNAME -> NAME", ["_a1"], ["1a"]),
    ('start: "a" /b/i  // end', ["aB"], ["AB"]),
]  # fmt: skip


def takes(source: str, writing: Writing, text: str) -> bool:
    grammar = f'start: "<" {write_lark(parse_lark(source), writing)} <[{END}]>'
    constraint = Constraint(grammar)
    assert GRAMMARS.error(constraint) == ""
    written = text if writing == "raw" else json.dumps(text, ensure_ascii=False)[1:-1]
    return GRAMMARS.accepts(constraint, [*GRAMMARS.ids("<" + written), END])


@pytest.mark.parametrize("writing", ["raw", "json"])
@pytest.mark.parametrize(("source", "good", "bad"), LANGUAGES)
def test_a_grammar_rules_plain_and_escaped_text_alike(
    source: str, good: list[str], bad: list[str], writing: Writing
) -> None:
    for text in good:
        assert takes(source, writing, text), text
    for text in bad:
        assert not takes(source, writing, text), text


def test_names_cannot_reach_outside() -> None:
    written = write_lark(parse_lark('start: call\ncall: "}" | arguments_0\narguments_0: "y"'), "raw")
    assert "call" not in written and "arguments_0" not in written


@pytest.mark.parametrize("name", COMMON_TERMINALS)
def test_every_common_terminal_is_a_regular_expression(name: str) -> None:
    terminal = parse_lark(f"start: {name}\n%import common.{name}").definitions[name]
    assert isinstance(terminal, Text)
    assert terminal.literal is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ('a: "x"', "no rule 'start'"),
        ("start: b", "uses 'b'"),
        ('start: "a"\nstart: "b"', "twice"),
        ("start: A\nA: A", "contains itself"),
        ('start: A\nA: b\nb: "x"', "uses the rule 'b'"),
        ("start: %json {}", "line 1"),
        ("start: <|im_end|>", "not supported"),
        ("start: <[3]>", "not supported"),
        ('start: sep{"a"}', "not supported"),
        ('start[lazy]: "a"', "a colon"),
        ('start: "a', "not supported"),
        ('start: ("a"', "a ')' is expected"),
        ('start: "a")', "a line's end"),
        ('start: "b".."a"', "a range that is none"),
        ('start: "a"~3..2', "fewer times"),
        ('start: "\\ud800"', "surrogate"),
        ('start: "\\U00110000"', "no character"),
        ("%declare A\nstart: A", "%declare"),
        ("%import python.NAME\nstart: NAME", "elsewhere"),
        ("%import common.TURNIP\nstart: TURNIP", "not known"),
        ("start: /(?=a)/", "group or a flag"),
        ("start: !a", "not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(source: str, reason: str) -> None:
    with pytest.raises(PatternError) as refused:
        write_lark(parse_lark(source), "raw")
    assert reason in str(refused.value)
    assert not refused.value.is_too_big


@pytest.mark.parametrize(
    "source",
    [
        "start: " + "(" * 60_000 + '"a"' + ")" * 60_000,
        "start: " + "(" * (MAX_DEPTH + 1) + '"a"' + ")" * (MAX_DEPTH + 1),
        'start: "a"' + "?" * 60_000,
        'start: "' + "a" * MAX_GRAMMAR_CHARS + '"',
    ],
    ids=["parentheses", "deep", "repeated", "long"],
)
def test_what_is_too_big_says_so(source: str) -> None:
    with pytest.raises(LarkError) as refused:
        parse_lark(source)
    assert refused.value.is_too_big
