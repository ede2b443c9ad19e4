from argparse import Namespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from hotloop.bench.answers import AnswerReader, BenchError
from hotloop.bench.peer_mock import mock_app
from hotloop.bench.peers import Target, target_of
from hotloop.bench.workload import Json, encoded, history


def given(**fields: Any) -> Namespace:
    plain = {"url": "http://127.0.0.1:9000/v1", "name": "peer", "model": "mock", "api_key": "k", "mock": ""}
    return Namespace(**plain | {"transport": "http", "mode": "full"} | fields)


def test_a_url_says_where_and_the_options_how() -> None:
    assert target_of(given(mock="http://h:1", mode="previous")) == Target(
        "peer",
        "127.0.0.1",
        9000,
        "/v1/responses",
        "mock",
        "k",
        "http",
        is_resending=False,
        counts_url="http://h:1/counts",
    )
    assert target_of(given(url=None)) is None


@pytest.mark.parametrize("wrong", [{"url": "https://h/v1"}, {"url": "h:9000"}, {"mock": "ftp://h"}])
def test_a_url_that_cannot_be_driven_is_one_line(wrong: Json) -> None:
    with pytest.raises(BenchError, match="http://HOST:PORT"):
        target_of(given(**wrong))


@pytest.mark.parametrize("stream", [False, True])
def test_the_mock_counts_the_prompt_it_is_sent_on_both_of_its_doors(stream: bool) -> None:
    with TestClient(mock_app()) as mock:
        messages = [{"role": "user", "content": "x" * 400}, {"role": "assistant", "content": [{"text": "y" * 40}]}]
        chat = mock.post("/v1/chat/completions", json={"model": "mock", "messages": messages, "stream": stream})
        assert "ok" in chat.text
        assert mock.get("/counts").json() == {"requests": 1, "prompt_tokens": 110}
        items = history(4_000)
        assert mock.post("/v1/responses", json={"model": "mock", "input": items, "stream": stream}).status_code == 200
        counted = mock.get("/counts").json()
        assert (counted["requests"], counted["prompt_tokens"] >= 1_110) == (2, True)
        assert mock.get("/v1/models").json()["data"][0]["id"] == "mock"
        assert mock.get("/health").status_code == 200


def test_events_of_other_servers_are_read_whatever_their_keys_order_and_without_usage() -> None:
    reader = AnswerReader()
    delta = {"sequence_number": 1, "delta": "a", "type": "response.output_text.delta"}
    assert reader.add(encoded(delta), 1.0) is None
    last = {"response": {"object": "response", "id": "resp_1", "usage": None}, "type": "response.completed"}
    answer = reader.add(encoded(last), 2.0)
    assert answer is not None
    assert (answer.response_id, answer.deltas, answer.prompt_tokens) == ("resp_1", 1, 0)
