"""`hotloop serve` as a command: what it says when it cannot start, how it ends."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest
from tests.support.served_command import serve_command, served

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
