import json

import pytest
from tests.support.grammars import Grammars
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.formats.grammar.regex_text import MAX_DEPTH, MAX_PATTERN_CHARS, PatternError, parse_pattern, write_pattern
from hotloop.seams.engine import Constraint

GRAMMARS = Grammars(ToyTokenizer())

# expression, texts it takes whole, texts it does not
LANGUAGES: list[tuple[str, list[str], list[str]]] = [
    ("", [""], ["a"]),
    ("abc", ["abc"], ["ab", "abcd", ""]),
    ("^abc$", ["abc"], ["xabc"]),
    (r"\Aa|b\Z", ["a", "b"], ["ab"]),
    ("a|", ["a", ""], ["b"]),
    ("(?:ab)+c*?", ["ab", "abab", "ababcc"], ["a", "c"]),
    ("(?P<name>a)(?<other>b)", ["ab"], ["a"]),
    ("a{2}b{1,}c{0,2}d{,1}", ["aabb", "aabccd"], ["ab", "aabccc"]),
    ("a{x}{", ["a{x}{"], ["a"]),
    ('[^"\n]*"', ['a"', 'é\t\\"'], ["\n", 'a""']),
    ("[\\x00-\\x1f]+", ["\n\t\x01\x1f"], [" ", '"']),
    ("[!-#]", ["!", '"', "#"], ["$", " "]),
    ('["\\\\]', ['"', "\\"], ["a"]),
    (".", ["é", '"', "\t"], ["\n", ""]),
    ("(?s).", ["\n", "a"], [""]),
    ("(?s:.).", ["\na"], ["\n\n"]),
    (r"\s\S", ['\n"', " a"], ["aa", "  "]),
    (r"\d\D", ['1"', "1a"], ["11"]),
    (r"\w\W", ["é\\", 'a"'], ["aa"]),
    (r"\p{Lu}\P{L}\p{^L}", ["A1\n", 'É""'], ["a11"]),
    (r"\p{Cc}\p{P}", ['\x01"', "\n\\"], ["aa"]),
    (r"(?i)straße", ["STRAßE", "straße"], ["strase"]),
    ("(?i:k)k(?-i:x)", ["Kk"[:1] + "kx"], ["KKx"]),
    ("(?i:[a-c\t])[a-c]", ["Ab", "\tb"], ["AB"]),
    (r"\x41\u00e9\u{1F600}\U0001F600\x{2F}", ["Aé😀😀/"], ["Aé"]),
    (r"[\b\-\]\^a-]+", ["\b-]^a"], ["c"]),
    (r"[]a]", ["]", "a"], ["b"]),
    (r"\.\/\-\"\ ", ['./-" '], ["a"]),
    (r"\t\n\r\f\v\a", ["\t\n\r\f\v\a"], ["t"]),
    ("[\\d_]+[^\\s]", ["1_a"], ["1_\n"]),
]


def takes(expression: str, text: str) -> bool:
    constraint = Constraint(f'start: "<" /{expression or "(?:)"}/ <[{END}]>')
    assert GRAMMARS.error(constraint) == ""
    return GRAMMARS.accepts(constraint, [*GRAMMARS.ids("<" + text), END])


END = GRAMMARS.tokenizer.special_ids["</tool_call>"]


@pytest.mark.parametrize(("source", "good", "bad"), LANGUAGES)
def test_an_expression_rules_plain_and_escaped_text_alike(source: str, good: list[str], bad: list[str]) -> None:
    pattern = parse_pattern(source)
    for text, expected in [*((text, True) for text in good), *((text, False) for text in bad)]:
        assert takes(write_pattern(pattern, "raw"), text) is expected, text
        assert takes(write_pattern(pattern, "json"), json.dumps(text, ensure_ascii=False)[1:-1]) is expected, text


@pytest.mark.parametrize(
    ("source", "good", "bad"),
    [
        (r"\d+[\d-]", ["01-", "10"], ["٣1", "1٣", "1a"]),
        (r"\w+[^\w]", ["aZ_9é", "a "], ["éa ", "ab"]),
        (r"\D[\D]", ['٣"', "a\n"], ["1a", "a1"]),
        (r"\W[\W]", ['é"', "-\\"], ["_é", "éa"]),
        (r"(?i:\w)", ["k"], ["\u212a", "ſ"]),
    ],
)
def test_in_a_json_schema_digits_and_letters_are_of_ascii(source: str, good: list[str], bad: list[str]) -> None:
    pattern = parse_pattern(source, is_ecma=True)
    for text, expected in [*((text, True) for text in good), *((text, False) for text in bad)]:
        assert takes(write_pattern(pattern, "raw"), text) is expected, text
        assert takes(write_pattern(pattern, "json"), json.dumps(text, ensure_ascii=False)[1:-1]) is expected, text


def test_flags_may_stand_outside() -> None:
    assert takes(write_pattern(parse_pattern("a.", "is"), "raw"), "A\n")


def test_only_the_escape_that_json_dumps_writes_is_taken() -> None:
    pattern = write_pattern(parse_pattern("[a\n]"), "json")
    assert takes(pattern, "\\n")
    assert not takes(pattern, "\\u000a")
    assert not takes(pattern, "\\u0061")


@pytest.mark.parametrize(
    "source",
    ["(?=a)", "(?<!a)b", r"(a)\1", r"\bword", "a^b", "a$b", "(^a)", "a++", "*a", "(a", "a)", "[a", "[[:alpha:]]", "a\\",
     "[z-a]", "a{3,2}", r"\q", r"\p{Greek}", r"\x{110000}", "\\xg1", "(?x:a)", "[a&&b]", "(?P>x)", r"[a-\d]", "\ud800"],
)  # fmt: skip
def test_what_is_not_regular_or_not_known_is_refused(source: str) -> None:
    with pytest.raises(PatternError) as refused:
        parse_pattern(source)
    assert not refused.value.is_too_big


@pytest.mark.parametrize(
    "source",
    [
        "(" * (MAX_DEPTH + 1) + ")" * (MAX_DEPTH + 1),
        "a" * (MAX_PATTERN_CHARS + 1),
        "(" * 60_000,
        "a" + "?" * 60_000,
        "(a{100}){100}",
        "b((x|(a{2}c?){50}){50}y)",
    ],
    ids=["deep", "long", "open", "repeated", "multiplied", "multiplied deeper"],
)
def test_what_is_too_big_says_so(source: str) -> None:
    with pytest.raises(PatternError) as refused:
        parse_pattern(source)
    assert refused.value.is_too_big


@pytest.mark.parametrize(
    "source", ["[a-z]{1,60000}", "([0-9]{1,3}\\.){3}[0-9]{1,3}", "(a*){1000}", "(a{100}b{100}){20}"]
)
def test_repetitions_in_honest_use_are_taken(source: str) -> None:
    assert GRAMMARS.error(Constraint(f"start: /{write_pattern(parse_pattern(source), 'raw')}/")) == ""
