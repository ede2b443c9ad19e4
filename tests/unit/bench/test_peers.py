import socket
import threading
from argparse import Namespace
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from hotloop.bench.answers import AnswerReader, BenchError
from hotloop.bench.chart import Bars
from hotloop.bench.peer_chat import Chat, Target, Turn
from hotloop.bench.peer_mock import mock_app
from hotloop.bench.peers import Played, Taken, findings_of, targets_of
from hotloop.bench.workload import Json, encoded, history


def given(**fields: Any) -> Namespace:
    plain = {
        "url": "http://127.0.0.1:9000/v1",
        "name": "peer",
        "model": "mock",
        "api_key": "k",
        "mock": "",
        "peers": None,
    }
    return Namespace(**plain | {"transport": "http", "mode": "full"} | fields)


PEER = Target("peer", "127.0.0.1", 9000, "/v1/responses", "mock", "k", "http", is_resending=False)


def test_a_url_says_where_and_the_options_how() -> None:
    assert targets_of(given(mock="http://h:1", mode="previous")) == [replace(PEER, counts_url="http://h:1/counts")]
    assert targets_of(given(url=None)) == []


def test_a_file_names_several_servers_and_ways(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    entry = {"url": "http://127.0.0.1:9000/v1", "api_key": "k"}
    path.write_bytes(encoded([{**entry, "mode": "previous"}, {**entry, "transport": "websocket", "name": "other"}]))
    ways = [PEER, replace(PEER, name="other", transport="websocket", is_resending=True)]
    assert targets_of(given(url=None, peers=path)) == ways
    assert targets_of(given(mode="previous", peers=path)) == [*ways, PEER]


@pytest.mark.parametrize(
    "wrong", [{"url": "https://h/v1"}, {"url": "h:9000"}, {"mock": "ftp://h"}, {"url": "http://h:x"}]
)
def test_a_url_that_cannot_be_driven_is_one_line(wrong: Json) -> None:
    with pytest.raises(BenchError, match="http://HOST:PORT"):
        targets_of(given(**wrong))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("[", "malformed|truncated"),
        ('[{"name": "x"}]', "missing required field `url`"),
        ('[{"url": "http://h/v1", "transport": "smoke"}]', "Invalid enum value 'smoke'"),
        ('[{"url": "http://h/v1", "colour": "red"}]', "unknown field `colour`"),
    ],
)
def test_a_file_that_names_no_servers_is_one_line(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "peers.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(BenchError, match=rf"--peers .*peers\.json: .*({said})"):
        targets_of(given(url=None, peers=path))


@contextmanager
def answering(answer: bytes) -> Generator[Target]:
    """A server that says this to whatever it is asked first, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_one, args=(listener, answer))
        thread.start()
        yield replace(PEER, port=listener.getsockname()[1])
        thread.join()


ERROR = b'data: {"type":"error","error":{"code":"server_error","message":"no engine"}}\n\n'
OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b'HTTP/1.1 500 Internal Server Error\r\nx: y\r\n\r\n{\n  "error": 1}',
            r"HTTP/1\.1 500 Internal Server Error: { \"error\": 1}",
        ),
        (OK + b"%x\r\n%s\r\n" % (len(ERROR), ERROR), "a turn failed: server_error: no engine"),
        (OK + b"0\r\n\r\n", "the stream ended without a terminal event"),
        (b"", "the server closed the connection"),
    ],
)
def test_a_peer_that_fails_is_one_line_that_names_it(answer: bytes, said: str) -> None:
    shown = rf"^peer at 127\.0\.0\.1:\d+, http previous: .*{said}$"
    with answering(answer) as target, closing(Chat(target)) as chat, pytest.raises(BenchError, match=shown) as failed:
        chat.say("hello")
    assert "\n" not in str(failed.value)


def test_a_connection_that_the_server_closed_while_it_was_idle_is_made_anew() -> None:
    said = b'data: {"type":"response.completed","response":{"id":"resp_1"}}\n\n'
    answer = OK + b"%x\r\n%s\r\n0\r\n\r\n" % (len(said), said)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = replace(PEER, port=listener.getsockname()[1])
        with closing(Chat(target)) as chat:
            first, _ = listener.accept()
            chat.attend()
            first.close()  # on loopback its end has arrived when this returns
            thread = threading.Thread(target=answer_one, args=(listener, answer))
            thread.start()
            chat.attend()
            assert chat.say("hello").response_id == "resp_1"
            thread.join()


def answer_one(listener: socket.socket, answer: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(65_536)
        connection.sendall(answer)


def test_a_peer_that_speaks_no_websocket_is_one_line() -> None:
    refused = pytest.raises(BenchError, match=r"websocket previous: the upgrade was refused: HTTP/1\.1 405")
    with answering(b"HTTP/1.1 405 Method Not Allowed\r\n\r\n") as target, refused:
        Chat(replace(target, transport="websocket"))


def test_a_peer_that_is_not_there_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(BenchError, match=rf"^peer at 127\.0\.0\.1:{port}, http previous: Connection refused$"):
        Chat(replace(PEER, port=port))


def test_turns_and_rollouts_have_a_row_for_every_way_and_network() -> None:
    far = replace(PEER, network="WAN")
    turns = {
        (one, tokens): [Turn(0.001, 0.002, 0.003, 1_647, 1)] * 3 for one in (PEER, far) for tokens in (1_000, 20_000)
    }
    found = findings_of(Taken(turns, {one: [Played(5.1, 51, 0.1)] * 3 for one in (PEER, far)}))
    assert [row[2:4] for row in found.table.rows] == [
        (net, n) for net in ("loopback", "WAN") for n in ("1,000", "20,000")
    ]
    (rollouts,) = found.more
    assert rollouts.rows[1] == ("peer", "http previous", "WAN", "5.100", "0.000", "100.00", "100.00")
    (chart,) = found.charts
    assert isinstance(chart, Bars)
    assert chart.bars == ["peer http previous, loopback", "peer http previous, WAN"]


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
