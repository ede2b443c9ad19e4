import json

import pytest

from hotloop.bench.answers import AnswerReader, BenchError
from hotloop.bench.clients import EventStream


def event(kind: str, **fields: object) -> bytes:
    return json.dumps({"type": kind, **fields}, separators=(",", ":")).encode()


TERMINAL = event(
    "response.incomplete",
    response={
        "id": "resp_1",
        "usage": {"input_tokens": 900, "input_tokens_details": {"cached_tokens": 850}, "output_tokens": 2},
    },
)


def test_an_answer_tells_when_its_events_came_and_what_they_counted() -> None:
    reader = AnswerReader()
    start = reader._started
    assert reader.add(event("response.created"), start + 1) is None
    assert reader.add(event("response.output_text.delta", delta="a"), start + 2) is None
    assert reader.add(event("response.function_call_arguments.delta", delta="b"), start + 3) is None
    answer = reader.add(TERMINAL, start + 4)
    assert answer is not None
    assert answer.response_id == "resp_1"
    times = (answer.first_event_s, answer.first_delta_s, answer.completed_s)
    assert times == pytest.approx((1, 2, 4))
    assert (answer.deltas, answer.prompt_tokens, answer.cached_tokens, answer.output_tokens) == (2, 900, 850, 2)


@pytest.mark.parametrize("kind", ["response.failed", "error"])
def test_a_failed_turn_ends_the_bench(kind: str) -> None:
    with pytest.raises(BenchError, match=kind):
        AnswerReader().add(event(kind), 0)


def chunked(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


@pytest.mark.parametrize("cut", [1, 7, 64, 10_000])
def test_events_of_a_stream_come_back_however_it_is_cut(cut: int) -> None:
    first, second = event("response.created"), event("response.output_text.delta", delta="x" * 100)
    sent = chunked(b"event: a\ndata: %b\n\nevent: b\ndata: %b\n\n" % (first, second), b"data: [DONE]\n\n")
    stream = EventStream()
    received: list[bytes] = []
    for start in range(0, len(sent), cut):
        received += stream.feed(sent[start : start + cut])
    assert received == [first, second]
    assert stream.is_over


def test_a_refused_request_ends_the_bench() -> None:
    with pytest.raises(BenchError, match="401"):
        EventStream().feed(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}")
