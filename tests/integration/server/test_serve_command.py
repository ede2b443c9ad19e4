"""`hotloop serve` as a command: what it says when it cannot start, how it ends."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.support.served_command import Served, serve_command, served
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

TIMEOUT_S = 60


def refused(*arguments: str, **environment: str) -> str:
    """Run a serve that must not start; returns its one line on stderr."""
    done = subprocess.run(
        serve_command(*arguments),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_missing_model_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nothing.gguf"
    line = refused("--model", str(path))
    assert str(path) in line
    assert "no such file" in line.lower()


def test_a_file_that_is_not_gguf_is_named(tmp_path: Path) -> None:
    path = tmp_path / "words.gguf"
    path.write_text("these are only words, no model at all" * 10)
    line = refused("--model", str(path))
    assert str(path) in line
    assert "GGUF" in line


def test_a_truncated_model_file_is_named(tmp_path: Path) -> None:
    from hotloop.tiny import model_path

    whole = model_path().read_bytes()
    path = tmp_path / "half.gguf"
    path.write_bytes(whole[: len(whole) // 2])
    line = refused("--model", str(path))
    assert str(path) in line
    assert "truncated" in line.lower()


def test_an_unknown_setting_in_the_environment_is_named() -> None:
    assert "HOTLOOP_MODLE" in refused(HOTLOOP_MODLE="x")


def test_other_than_loopback_needs_a_key() -> None:
    assert "HOTLOOP_API_KEY" in refused("--host", "0.0.0.0")


def test_a_port_in_use_is_named() -> None:
    with served() as server:
        port = httpx.URL(server.url).port
        assert str(port) in refused("--port", str(port))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_code_0(sig: signal.Signals) -> None:
    with served() as server:
        assert httpx.get(server.url.replace("/v1", "/healthz")).json()["status"] == "ok"
        assert server.stop(sig) == 0


def scripted(tmp_path: Path, text: str, tokens: int) -> list[str]:
    script = tmp_path / "script.json"
    turn = {"text": text, "pace": {"tokens": tokens, "seconds": 0.01}}
    script.write_text(json.dumps({"scripts": [{"match": "", "turns": [turn]}]}))
    return ["--engine", "scripted", "--script", str(script)]


def lines_of(server: Served, way: str) -> Iterator[str]:
    """The events of a stream as text, to its end; the last is how the connection was closed."""
    create = {"type": "response.create", "model": server.model, "input": "go", "stream": True, "store": False}
    if way == "sse":
        with httpx.stream("POST", f"{server.url}/responses", json=create, timeout=TIMEOUT_S) as answer:
            yield from (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
        return
    with connect(server.url.replace("http", "ws", 1) + "/responses") as socket:
        socket.send(json.dumps(create))
        try:
            while True:
                yield str(socket.recv(TIMEOUT_S))
        except ConnectionClosed:
            yield str(socket.close_code)


@pytest.mark.parametrize(("way", "last"), [("raw", "1012"), ("asgi", "1012"), ("sse", "[DONE]")])
@pytest.mark.parametrize("is_short", [True, False], ids=["finished", "dropped"])
def test_a_signal_in_the_middle_of_a_stream(way: str, last: str, is_short: bool, tmp_path: Path) -> None:
    """It is finished, if there is time for it; what takes longer is ended in order."""
    words = 150 if is_short else 10_000
    environment = {"HOTLOOP_WEBSOCKET": "raw" if way == "raw" else "asgi"}
    if not is_short:
        environment["HOTLOOP_DRAIN_TIMEOUT_S"] = "0.1"
    with served(scripted(tmp_path, "word " * words, 1), environment) as server:
        lines = lines_of(server, way)
        assert "response.output_text.delta" in next(line for line in lines if "delta" in line)
        server.process.send_signal(signal.SIGTERM)
        *events, closing = lines
        kinds = [json.loads(event)["type"] for event in events]
        assert kinds.count("response.output_text.delta") > 1
        if is_short:
            assert kinds[-1] == "response.completed"
            (message,) = json.loads(events[-1])["response"]["output"]
            assert message["content"][0]["text"] == "word " * words
        else:
            assert "response.completed" not in kinds
        assert closing == last
        assert server.process.wait(TIMEOUT_S) == 0
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


def test_a_second_signal_drops_what_runs_and_still_ends_in_order(tmp_path: Path) -> None:
    with served(scripted(tmp_path, "word " * 10_000, 1)) as server:
        body = {"model": server.model, "input": "go", "stream": True}
        with httpx.stream("POST", f"{server.url}/responses", json=body, timeout=TIMEOUT_S) as answer:
            lines = answer.iter_lines()
            assert next(line for line in lines if line.startswith("event: response.output_text.delta"))
            server.process.send_signal(signal.SIGTERM)
            while httpx.post(f"{server.url}/responses", json=body, timeout=TIMEOUT_S).status_code != 503:
                pass  # the first signal has not arrived yet
            server.process.send_signal(signal.SIGTERM)
            assert "event: error" in list(lines)
        assert server.process.wait(TIMEOUT_S) == 0
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()


def test_a_client_that_does_not_read_does_not_hold_up_the_end() -> None:
    with served() as server:
        url = httpx.URL(server.url)
        item = {"role": "user", "content": "x" * 9_000_000}  # more than a kernel buffers
        made = httpx.post(f"{url}/conversations", json={"items": [item]}, timeout=TIMEOUT_S).json()
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((url.host, url.port))
            client.sendall(
                f"GET {url.path}/conversations/{made['id']}/items HTTP/1.1\r\nhost: {url.host}\r\n\r\n".encode()
            )
            assert client.recv(12) == b"HTTP/1.1 200"
            assert server.stop() == 0
