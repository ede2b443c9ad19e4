"""What holds for the incremental readers of the formats whatever the text and however it is cut."""

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hotloop.formats.parsing.call_reader import CallReader
from hotloop.formats.parsing.input_reader import InputReader
from hotloop.formats.parsing.text_decoder import PieceTable, TextDecoder

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def cut(text: str, places: list[int]) -> list[str]:
    return [
        text[start:stop]
        for start, stop in pairwise([0, *sorted(place % (len(text) + 1) for place in places), len(text)])
    ]


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@given(st.lists(st.binary(max_size=4), max_size=12))
def test_decoding_piece_by_piece_is_decoding_the_whole(pieces: list[bytes]) -> None:
    decoder = TextDecoder(PieceTable(pieces.__getitem__))
    text = "".join(decoder.feed(token) for token in range(len(pieces))) + decoder.flush()
    assert text == b"".join(pieces).decode("utf-8", "replace")
    assert decoder.flush() == ""


@given(
    json_values,
    st.text(min_size=1, max_size=6),
    st.permutations(["name", "arguments", "id"]),
    st.sampled_from([None, 1]),
    cuts,
)
def test_a_sound_call_is_read_verbatim(
    value: object, name: str, keys: list[str], indent: int | None, places: list[int]
) -> None:
    arguments = json.dumps(value, indent=indent)
    values = {"name": json.dumps(name), "arguments": arguments, "id": '{"x": ["}"]}'}
    reader = CallReader()
    read = ""
    for piece in cut(" {" + ",".join(f'"{key}" : {values[key]} ' for key in keys) + "}\n", places):
        reader.feed(piece)
        assert reader.rest == "" and not reader.is_broken
        read += reader.take_arguments()
    assert (reader.name, read, reader.is_over, reader.arguments_are_whole) == (name, arguments, True, True)


@given(st.text(alphabet='{}[]":,\\ \n<ax1', max_size=30), cuts)
def test_any_text_is_read_the_same_however_it_is_cut(text: str, places: list[int]) -> None:
    assert _read_all([text]) == _read_all(cut(text, places)) == _read_all(list(text))


def _read_all(pieces: list[str]) -> tuple[str | None, str, bool, str]:
    reader = CallReader()
    read = unread = ""
    for piece in pieces:
        if unread:
            unread += piece
            continue
        reader.feed(piece)
        read += reader.take_arguments()
        unread = reader.rest
    return reader.name, read, reader.is_broken, unread


@given(st.text(max_size=20), st.booleans(), cuts)
def test_the_text_of_a_custom_tool_comes_through_however_it_is_escaped(
    text: str, ascii_only: bool, places: list[int]
) -> None:
    arguments = json.dumps({"input": text}, ensure_ascii=ascii_only)
    reader = InputReader()
    assert "".join(reader.feed(piece) for piece in cut(arguments, places)) + reader.finish() == text


@given(st.text(alphabet='"\\u/dD89acCf0nx{}: ', max_size=30), cuts)
def test_bad_escapes_come_through_the_same_however_they_are_cut(text: str, places: list[int]) -> None:
    whole, split = InputReader(), InputReader()
    head = '{"input": "'
    one = whole.feed(head + text) + whole.finish()
    many = "".join(split.feed(piece) for piece in [head, *cut(text, places)]) + split.finish()
    assert one == many
    one.encode()  # no lone surrogates
