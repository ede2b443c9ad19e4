from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from hotloop.client.sse import SseDecoder

STREAM = (
    ": hello\n\n"
    'event: response.created\ndata: {"type":"response.created"}\n\n'
    "data:no space\r\n\r\n"
    "data: two\rdata: lines\r\r"
    "id: 7\nretry: 10\nunknown\n\n"
    "data: é € 😀\n\n"
    "data: [DONE]\n\n"
    "data: never closed\n"
).encode()
EVENTS = [b'{"type":"response.created"}', b"no space", b"two\nlines", "é € 😀".encode(), b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM))))
def test_any_chunking_gives_the_same_events(cuts: list[int]) -> None:
    decoder = SseDecoder()
    bounds = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in pairwise(bounds)]
    assert [data for chunk in chunks for data in decoder.feed(chunk)] == EVENTS


def test_every_byte_alone_gives_the_same_events() -> None:
    decoder = SseDecoder()
    assert [data for byte in STREAM for data in decoder.feed(bytes([byte]))] == EVENTS


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), min_size=1))
def test_what_is_written_as_data_is_read_back(payloads: list[str]) -> None:
    stream = "".join(f"data: {payload}\n\n" for payload in payloads).encode()
    assert SseDecoder().feed(stream) == [payload.encode() for payload in payloads]
