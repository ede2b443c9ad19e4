"""Every example of the README, run as it stands against the server it starts."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.served_command import Served, served

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served() as running:
        yield running


def run(kind: str, code: str, server: Served) -> str:
    code = code.replace("http://127.0.0.1:8000/v1", server.url)
    command = ["bash", "-euc", code] if kind == "bash" else [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_a_curl_an_http_and_a_websocket_example() -> None:
    assert [kind for kind, _ in BLOCKS] == ["bash", "python", "python"]
    assert "curl" in BLOCKS[0][1]
    assert "responses.create(" in BLOCKS[1][1]
    assert "responses.connect(" in BLOCKS[2][1]


@pytest.mark.parametrize(
    "index", range(len(BLOCKS)), ids=[f"{kind}{number}" for number, (kind, _) in enumerate(BLOCKS)]
)
def test_the_example_runs_and_the_model_answers(index: int, server: Served) -> None:
    kind, code = BLOCKS[index]
    output = run(kind, code, server)
    assert "demonstration" in output


def test_the_websocket_example_reuses_the_kv_of_its_first_turn(server: Served) -> None:
    kind, code = BLOCKS[2]
    cached_tokens = int(run(kind, code, server).split()[-1])
    assert cached_tokens > 0
