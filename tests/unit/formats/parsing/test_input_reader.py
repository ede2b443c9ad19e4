import pytest

from hotloop.formats.parsing.input_reader import InputReader


def read(*pieces: str) -> str:
    reader = InputReader()
    return "".join([*(reader.feed(piece) for piece in pieces), reader.finish()])


def test_text_is_passed_on_as_it_comes() -> None:
    reader = InputReader()
    assert reader.feed('{"input": "ab\\') == "ab"
    assert reader.feed("nc") == "\nc"
    assert reader.feed('", "other": 1}') == ""
    assert reader.feed("}") == ""
    assert reader.finish() == ""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ('{"code": "x\\n"}', "x\n"),
        ('{"a": "x", "input": "y"}', "y"),
        ('{"a": 1, "b": 2}', '{"a": 1, "b": 2}'),
        ('"plain"', "plain"),
        ("[1]", "[1]"),
        ('{"input": 5}', '{"input": 5}'),
        ("{broken", "{broken"),
        ('{"code": "' + "x" * 100 + '"}', "x" * 100),
    ],
)
def test_arguments_of_another_shape_are_understood_at_the_end(arguments: str, text: str) -> None:
    assert read(arguments) == read(*arguments) == text


def test_text_cut_inside_an_escape_keeps_what_is_there() -> None:
    assert read('{"input": "a\\u00') == "a\\u00"


def test_lone_surrogates_become_the_replacement_character() -> None:
    assert read('{"input": "\\ud83d!\\ude00\\ud83d\\n"}') == "\ufffd!\ufffd\ufffd\n"


def test_what_is_no_escape_stands_for_itself() -> None:
    assert read('{"input": "\\d+\\q"}') == "\\d+\\q"
