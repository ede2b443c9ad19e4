"""The kinds of functions the model knows: how each is written, how it goes wrong, and what its tests call.

In a body, `{a}`, `{b}`, `{c}` are parameters in order and `{e}`, `{r}` a loop variable and a result.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of function.

    Args:
        verbs: beginnings of its name.
        parameters: which pool of names each parameter comes from; "pair" gives two.
        body: its lines, right, without the indentation of the function.
        bugs: (number of a line of the body, what stands there instead).
        cases: argument lists as source text.
    """

    verbs: tuple[str, ...]
    parameters: tuple[str, ...]
    body: tuple[str, ...]
    bugs: tuple[tuple[int, str], ...]
    cases: tuple[str, ...]


def _line(verbs: str, parameters: str, right: str, wrong: str, cases: str) -> Kind:
    """A function of one line: alternatives are separated by ` | `, cases by `; `."""
    return Kind(
        tuple(verbs.split()),
        tuple(parameters.split()),
        (f"return {right}",),
        tuple((0, f"return {text}") for text in wrong.split(" | ")),
        tuple(cases.split("; ")),
    )


def _lines(verbs: str, parameters: str, body: str, bugs: tuple[tuple[int, str], ...], cases: str) -> Kind:
    return Kind(
        tuple(verbs.split()), tuple(parameters.split()), tuple(body.split("\n")), bugs, tuple(cases.split("; "))
    )


_PAIR = "2, 3; 7, 4; 10, 5; 1, 8; 9, 2; 12, 3; 6, 4"
_NUMBER = "4; 3; 7; 10; 5; 12; 9"
_LIST = "[1, 2, 3]; [4, 1, 3]; [5, 2]; [7, 3, 5, 1]; [2, 9, 4]"
_SIGNED = "[3, -1, 2]; [-4, 5]; [1, -2, -3, 6]"
_TEXT = "'ab'; 'Hello'; 'one Two'; 'Cat'"

KINDS: tuple[Kind, ...] = (
    _line("add plus combine", "pair", "{a} + {b}", "{a} - {b} | {a} * {b}", _PAIR),
    _line("subtract minus difference", "pair", "{a} - {b}", "{a} + {b} | {b} - {a}", _PAIR),
    _line("multiply times product", "pair", "{a} * {b}", "{a} + {b} | {a} ** {b} | {a} - {b}", _PAIR),
    _line("divide ratio", "pair", "{a} / {b}", "{a} // {b} | {a} * {b} | {b} / {a}", "7, 2; 9, 4; 5, 2; 3, 4"),
    _line("remainder modulo", "pair", "{a} % {b}", "{a} // {b} | {a} / {b} | {b} % {a}", "7, 4; 9, 4; 11, 3"),
    _line("power raised", "pair", "{a} ** {b}", "{a} * {b} | {b} ** {a}", "2, 3; 3, 4; 5, 2"),
    _line("larger bigger greater", "pair", "max({a}, {b})", "min({a}, {b}) | {a} + {b}", _PAIR),
    _line("smaller lesser", "pair", "min({a}, {b})", "max({a}, {b}) | {a} - {b}", _PAIR),
    _line("is_above exceeds", "pair", "{a} > {b}", "{a} < {b} | {a} == {b}", "7, 4; 9, 2; 12, 3"),
    _line("is_below", "pair", "{a} < {b}", "{a} > {b} | {a} == {b}", "2, 5; 1, 3; 4, 9"),
    _line("same equal", "pair", "{a} == {b}", "{a} != {b} | {a} > {b}", "3, 3; 5, 5; 8, 8"),
    _line("middle midpoint", "pair", "({a} + {b}) / 2", "{a} + {b} / 2 | ({a} - {b}) / 2 | ({a} + {b}) * 2", _PAIR),
    _line("distance gap", "pair", "abs({a} - {b})", "abs({a} + {b}) | {a} - {b}", "2, 5; 1, 8; 3, 9"),
    _line("swap flip", "pair", "{b}, {a}", "{a}, {b} | {b}, {b}", "1, 2; 3, 4; 'a', 'b'"),
    _line("divisible", "pair", "{a} % {b} == 0", "{a} % {b} != 0 | {a} // {b} == 0", "6, 3; 8, 2; 10, 5"),
    _line("is_even", "number", "{a} % 2 == 0", "{a} % 2 == 1 | {a} % 3 == 0", "4; 10; 7; 2"),
    _line("is_odd", "number", "{a} % 2 == 1", "{a} % 2 == 0 | {a} % 3 == 1", "3; 5; 8; 9"),
    _line("square", "number", "{a} * {a}", "{a} + {a} | {a} * 2", "3; 5; 7; 10"),
    _line("double twice", "number", "{a} * 2", "{a} ** 2 | {a} * 3 | {a} + 2", "4; 3; 7"),
    _line("triple", "number", "{a} * 3", "{a} ** 3 | {a} * 2 | {a} + 3", "4; 2; 7"),
    _line("halve half", "number", "{a} / 2", "{a} * 2 | {a} // 3 | {a} - 2", "5; 7; 9"),
    _line("negate", "number", "-{a}", "{a} | +{a}", _NUMBER),
    _line("is_positive", "number", "{a} > 0", "{a} < 0 | {a} == 0", "4; -3; 7"),
    _line("is_negative", "number", "{a} < 0", "{a} > 0 | {a} == 0", "-4; 3; -7"),
    _line("increment next", "number", "{a} + 1", "{a} - 1 | {a} + 2 | {a} * 1", _NUMBER),
    _line("decrement previous", "number", "{a} - 1", "{a} + 1 | {a} - 2", _NUMBER),
    _line("cube", "number", "{a} ** 3", "{a} ** 2 | {a} * 3", "4; 2; 5"),
    _line("last_digit", "number", "{a} % 10", "{a} // 10 | {a} % 2", "47; 123; 58"),
    _line("celsius", "number", "({a} - 32) * 5 / 9", "({a} + 32) * 5 / 9 | {a} - 32 * 5 / 9", "50; 212; 68"),
    _line("fahrenheit", "number", "{a} * 9 / 5 + 32", "{a} * 9 / 5 - 32 | {a} * 5 / 9 + 32", "10; 100; 20"),
    _line("seconds", "number", "{a} * 60", "{a} / 60 | {a} * 100 | {a} + 60", "3; 5; 10"),
    _line("first front", "items", "{a}[0]", "{a}[1] | {a}[-1]", _LIST),
    _line("last final", "items", "{a}[-1]", "{a}[0] | {a}[1]", "[1, 2, 3]; [4, 1, 3]; [7, 3, 5, 1]"),
    _line("total sum sum_of", "items", "sum({a})", "len({a}) | max({a})", _LIST),
    _line(
        "count length number_of",
        "items",
        "len({a})",
        "sum({a}) | max({a}) | len({a}) - 1",
        "[4, 4, 5]; [5, 7]; [7, 3, 5, 1]",
    ),
    _line("highest maximum largest", "items", "max({a})", "min({a}) | sum({a})", _LIST),
    _line("lowest minimum smallest", "items", "min({a})", "max({a}) | sum({a})", _LIST),
    _line(
        "average mean",
        "items",
        "sum({a}) / len({a})",
        "sum({a}) / 2 | len({a}) / sum({a}) | sum({a}) * len({a})",
        "[2, 4, 6]; [3, 6, 3]; [1, 2, 9, 4]",
    ),
    _line("reverse backwards reversed", "items", "{a}[::-1]", "{a}[::2] | {a}[1:]", _LIST),
    _line(
        "sort ascending sorted",
        "items",
        "sorted({a})",
        "sorted({a}, reverse=True) | list({a})",
        "[3, 1, 2]; [5, 2]; [2, 9, 4]",
    ),
    _line(
        "descending", "items", "sorted({a}, reverse=True)", "sorted({a}) | list({a})", "[1, 3, 2]; [2, 5]; [2, 9, 4]"
    ),
    _line("is_empty", "items", "len({a}) == 0", "len({a}) > 0 | len({a}) == 1", "[]; [1, 2]; []"),
    _line("unique distinct", "items", "sorted(set({a}))", "sorted({a}) | list({a})", "[2, 1, 2]; [3, 3, 1]; [5, 4, 5]"),
    _line("rest tail", "items", "{a}[1:]", "{a}[:1] | {a}[:-1] | {a}[2:]", "[1, 2, 3]; [7, 3, 5, 1]"),
    _line("but_last", "items", "{a}[:-1]", "{a}[1:] | {a}[-1:]", "[1, 2, 3]; [7, 3, 5, 1]"),
    _line("take", "items number", "{a}[:{b}]", "{a}[{b}:] | {a}[{b}]", "[1, 2, 3], 2; [7, 3, 5, 1], 1"),
    _line("drop skip", "items number", "{a}[{b}:]", "{a}[:{b}] | {a}[{b}]", "[1, 2, 3], 2; [7, 3, 5, 1], 1"),
    _line("contains has", "items element", "{b} in {a}", "{b} not in {a}", "[1, 2], 2; [4, 5], 4; [3], 7"),
    _line(
        "occurrences", "items element", "{a}.count({b})", "{a}.index({b}) | len({a})", "[1, 2, 2], 2; [4, 5, 4, 4], 4"
    ),
    _line("position", "items element", "{a}.index({b})", "{a}.count({b}) | len({a})", "[5, 6, 2], 2; [4, 5], 4"),
    _line(
        "squares",
        "items",
        "[{e} * {e} for {e} in {a}]",
        "[{e} + {e} for {e} in {a}] | [{e} * 2 for {e} in {a}]",
        "[1, 2, 3]; [4, 5]",
    ),
    _line(
        "doubles",
        "items",
        "[{e} * 2 for {e} in {a}]",
        "[{e} + 2 for {e} in {a}] | [{e} * {e} for {e} in {a}]",
        "[1, 2, 3]; [4, 5]",
    ),
    _line("evens", "items", "[{e} for {e} in {a} if {e} % 2 == 0]", "[{e} for {e} in {a} if {e} % 2 == 1]", _LIST),
    _line("odds", "items", "[{e} for {e} in {a} if {e} % 2 == 1]", "[{e} for {e} in {a} if {e} % 2 == 0]", _LIST),
    _line("positives", "items", "[{e} for {e} in {a} if {e} > 0]", "[{e} for {e} in {a} if {e} < 0]", _SIGNED),
    _line("negatives", "items", "[{e} for {e} in {a} if {e} < 0]", "[{e} for {e} in {a} if {e} > 0]", _SIGNED),
    _line("append", "items element", "{a} + [{b}]", "[{b}] + {a} | {a} + [{b}, {b}]", "[1, 2], 3; [4], 5"),
    _line("prepend", "items element", "[{b}] + {a}", "{a} + [{b}] | [{b}, {b}] + {a}", "[1, 2], 3; [4], 5"),
    _line("spread span", "items", "max({a}) - min({a})", "max({a}) + min({a}) | min({a}) - max({a})", _LIST),
    _line("top_two", "items", "sorted({a})[-2:]", "sorted({a})[:2] | {a}[-2:]", "[5, 1, 3]; [9, 4, 7, 2]"),
    _line("upper shout", "text", "{a}.upper()", "{a}.lower() | {a}.title()", _TEXT),
    _line("lower whisper", "text", "{a}.lower()", "{a}.upper() | {a}.title()", "'AB'; 'Hello'; 'One Two'"),
    _line("strip trim clean", "text", "{a}.strip()", "{a}.lower() | {a}.lstrip()", "' ab '; 'cat '; ' dog '"),
    _line("capitalize", "text", "{a}.title()", "{a}.upper() | {a}.lower()", "'ab cd'; 'hello'; 'one two'"),
    _line("join", "items", "', '.join({a})", "' '.join({a}) | ''.join({a})", "['a', 'b']; ['x', 'y', 'z']"),
    _line("dashed", "items", "'-'.join({a})", "'+'.join({a}) | ' '.join({a})", "['a', 'b']; ['x', 'y', 'z']"),
    _line("lines", "items", '"; ".join({a})', '": ".join({a}) | "".join({a})', "['a', 'b']; ['x', 'y', 'z']"),
    _line("words", "text", "{a}.split()", "list({a}) | [{a}]", "'a b'; 'one two'"),
    _line("columns", "text", '{a}.split(",")', '{a}.split(";") | {a}.split()', "'a,b'; '1,2,3'"),
    _line("is_palindrome", "text", "{a} == {a}[::-1]", "{a} != {a}[::-1] | {a} == {a}[1:]", "'abba'; 'level'; 'noon'"),
    _line("initial", "text", "{a}[0]", "{a}[-1] | {a}[1]", "'ab'; 'cat'"),
    _line("is_blank", "text", '{a}.strip() == ""', '{a}.strip() != "" | {a} == ""', "'  '; ' '"),
    _line(
        "starts",
        "text text",
        "{a}.startswith({b})",
        "{a}.endswith({b}) | {b}.startswith({a})",
        "'cat', 'c'; 'dog', 'do'",
    ),
    _line(
        "ends", "text text", "{a}.endswith({b})", "{a}.startswith({b}) | {b}.endswith({a})", "'cat', 't'; 'dog', 'og'"
    ),
    _line(
        "slug underscore",
        "text",
        '{a}.replace(" ", "_")',
        '{a}.replace("_", " ") | {a}.replace(" ", "")',
        "'a b'; 'one two'",
    ),
    _line("repeat", "text number", "{a} * {b}", "{a} + {a} | {a} * 2", "'ab', 3; 'x', 4"),
    _line("greet welcome", "text", '"Hello, " + {a}', '{a} + "Hello, " | "Hello, "', "'Ann'; 'Bob'"),
    _line("bracket", "text", '"[" + {a} + "]"', '"[" + {a} | "(" + {a} + ")" | {a} + "]"', "'a'; 'cd'"),
    _line("cap at_most", "number limit", "min({a}, {b})", "max({a}, {b}) | {a}", "9, 5; 12, 10; 7, 3"),
    _line("at_least", "number limit", "max({a}, {b})", "min({a}, {b}) | {a}", "2, 5; 1, 10; 3, 7"),
    _line(
        "percent", "pair", "{a} / {b} * 100", "{b} / {a} * 100 | {a} / {b} / 100 | {a} * {b} * 100", "1, 4; 3, 5; 2, 8"
    ),
    _line("area", "pair", "{a} * {b}", "{a} + {b} | 2 * {a} * {b}", "2, 3; 4, 5; 6, 7"),
    _line("perimeter", "pair", "2 * ({a} + {b})", "{a} + {b} | 2 * {a} + {b} | 2 * ({a} - {b})", "2, 3; 4, 5; 6, 7"),
    _line("discount", "pair", "{a} - {a} * {b}", "{a} + {a} * {b} | {a} - {b} * {b}", "10, 0.5; 20, 0.25; 8, 0.5"),
    _line("surcharge", "pair", "{a} + {a} * {b}", "{a} - {a} * {b} | {a} + {b} * {b}", "10, 0.5; 20, 0.25; 8, 0.5"),
    _line(
        "lookup fetch",
        "table element",
        "{a}.get({b}, 0)",
        "{a}.get({b}) | {a}[{b}]",
        "{{'a': 1}}, 'b'; {{'x': 2}}, 'y'",
    ),
    _line("keys", "table", "sorted({a})", "sorted({a}.values()) | len({a})", "{{'b': 1, 'a': 2}}; {{'y': 3, 'x': 4}}"),
    _line(
        "table_sum",
        "table",
        "sum({a}.values())",
        "len({a}) | max({a}.values())",
        "{{'b': 1, 'a': 2}}; {{'y': 3, 'x': 4}}",
    ),
    _line("both", "pair", "{a} and {b}", "{a} or {b}", "True, False; False, True"),
    _line("either", "pair", "{a} or {b}", "{a} and {b} | not {a} and not {b}", "True, False; True, False"),
    _lines(
        "absolute",
        "number",
        "if {a} < 0:\n    return -{a}\nreturn {a}",
        ((0, "if {a} > 0:"), (1, "    return {a}"), (2, "return -{a}")),
        "-4; -7; 5; 3",
    ),
    _lines(
        "factorial",
        "number",
        "{r} = 1\nfor {e} in range(1, {a} + 1):\n    {r} *= {e}\nreturn {r}",
        ((0, "{r} = 0"), (1, "for {e} in range(1, {a}):"), (2, "    {r} += {e}"), (3, "return {a}")),
        "4; 3; 5",
    ),
    _lines(
        "sum_to",
        "number",
        "{r} = 0\nfor {e} in range({a} + 1):\n    {r} += {e}\nreturn {r}",
        ((0, "{r} = 1"), (1, "for {e} in range({a}):"), (2, "    {r} -= {e}"), (3, "return {a}")),
        "4; 3; 5",
    ),
    _lines(
        "add_up",
        "items",
        "{r} = 0\nfor {e} in {a}:\n    {r} += {e}\nreturn {r}",
        ((0, "{r} = 1"), (2, "    {r} -= {e}"), (2, "    {r} = {e}"), (3, "return {a}")),
        "[1, 2, 3]; [4, 5]",
    ),
    _lines(
        "multiply_all",
        "items",
        "{r} = 1\nfor {e} in {a}:\n    {r} *= {e}\nreturn {r}",
        ((0, "{r} = 0"), (2, "    {r} += {e}"), (2, "    {r} = {e}"), (3, "return {a}")),
        "[1, 2, 3]; [4, 5]",
    ),
    _lines(
        "count_positive",
        "items",
        "{r} = 0\nfor {e} in {a}:\n    if {e} > 0:\n        {r} += 1\nreturn {r}",
        ((0, "{r} = 1"), (2, "    if {e} < 0:"), (3, "        {r} -= 1"), (3, "        {r} += {e}")),
        "[3, -1, 2]; [-4, 5, 6]",
    ),
    _lines(
        "count_even",
        "items",
        "{r} = 0\nfor {e} in {a}:\n    if {e} % 2 == 0:\n        {r} += 1\nreturn {r}",
        ((0, "{r} = 1"), (2, "    if {e} % 2 == 1:"), (3, "        {r} -= 1"), (3, "        {r} += {e}")),
        "[3, 4, 2]; [4, 5, 6]",
    ),
    _lines(
        "biggest",
        "items",
        "{r} = {a}[0]\nfor {e} in {a}:\n    if {e} > {r}:\n        {r} = {e}\nreturn {r}",
        ((2, "    if {e} < {r}:"), (3, "        {r} += {e}"), (4, "return {a}")),
        "[3, 4, 2]; [4, 5, 6]",
    ),
    _lines(
        "smallest",
        "items",
        "{r} = {a}[0]\nfor {e} in {a}:\n    if {e} < {r}:\n        {r} = {e}\nreturn {r}",
        ((2, "    if {e} > {r}:"), (3, "        {r} += {e}"), (4, "return {a}")),
        "[3, 4, 2]; [4, 1, 6]",
    ),
    _lines(
        "collect",
        "items",
        "{r} = []\nfor {e} in {a}:\n    {r}.append({e} + 1)\nreturn {r}",
        ((2, "    {r}.append({e} - 1)"), (2, "    {r}.append({e})"), (3, "return {a}")),
        "[3, 4]; [4, 1, 6]",
    ),
    _lines(
        "label grade",
        "number limit",
        'if {a} > {b}:\n    return "high"\nreturn "low"',
        ((0, "if {a} < {b}:"), (1, '    return "low"'), (2, 'return "high"')),
        "9, 5; 2, 5; 7, 3; 1, 8",
    ),
)
