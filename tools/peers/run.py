"""Other Responses servers with the same work as hotloop, in one run: `tools/peers/run.py FOLDER [OPTIONS of bench peers]`.

Each peer lives in a virtual environment of its own in FOLDER, installed from PyPI on the first run at the version named here.
Each gets a mock engine of its own, so that what reaches it is counted; all servers run while all arms are measured, turn by
turn interleaved. One that cannot be installed or started is named and left out; then the exit code is 3.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

START_LIMIT_S = 120.0
STOP_LIMIT_S = 15.0
LEFT_OUT = 3
KEY = "sk-peers"


@dataclass(frozen=True)
class Peer:
    """A server: what it is installed from, how it is started, the ways to ask it. Words in braces are filled in."""

    name: str
    requirement: str
    command: Sequence[str]
    ways: Sequence[tuple[str, str]]  # transport, mode
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    health: str = "/health"
    api_key: str = "none"


LITELLM_CONFIG = """model_list:
  - model_name: mock
    litellm_params: {{model: hosted_vllm/mock, api_base: "{mock}/v1", api_key: none}}
"""
PEERS = (
    Peer(
        "agentic-api",
        "agentic-api==0.9.0",
        (
            "{bin}/agentic-server", "--llm-api-base", "{mock}", "--gateway-host", "127.0.0.1", "--gateway-port", "{port}",
            "--db-url", "sqlite://{folder}/agentic.db?mode=rwc",
        ),
        (("websocket", "previous"), ("http", "previous"), ("http", "full")),
    ),
    Peer(
        "smg",
        "smg==1.13.0",
        (
            "{bin}/smg", "launch", "--host", "127.0.0.1", "--port", "{port}", "--worker-urls", "{mock}", "--policy",
            "round_robin", "--prometheus-port", "{spare}",
        ),
        (("http", "full"),),
    ),
    Peer(
        "LiteLLM",
        "litellm[proxy]==1.108.7",
        (
            "{bin}/litellm", "--config", "{folder}/litellm.yaml", "--host", "127.0.0.1", "--port", "{port}",
            "--keepalive_timeout", "600",
        ),
        (("http", "full"),),
        environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY},
        files={"litellm.yaml": LITELLM_CONFIG},
        health="/health/liveliness",
        api_key=KEY,
    ),
)  # fmt: skip


class LeftOut(Exception):
    """A peer cannot be compared here. One line."""


def installed(peer: Peer, root: Path) -> Path:
    """The folder of its programs. Raises LeftOut."""
    home = root / peer.name.lower()
    done = home / f".{peer.requirement.replace('/', '_')}"
    if not done.exists():
        print(f"installing {peer.requirement}", file=sys.stderr, flush=True)
        venv.create(home, clear=True, with_pip=True)
        pip = [home / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", peer.requirement]
        with (root / f"{peer.name.lower()}-install.log").open("w") as log:
            if subprocess.run(pip, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
                raise LeftOut(f"{peer.requirement} cannot be installed, see {log.name}")
        done.touch()
    return home / "bin"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def started(stack: ExitStack, command: Sequence[str], environment: dict[str, str], log: Path, url: str) -> None:
    """Wait until the program answers at `url`; it is stopped with the stack. Raises LeftOut."""
    output = stack.enter_context(log.open("w"))
    process = subprocess.Popen(
        command,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment},
        start_new_session=True,
    )
    stack.callback(stop, process)
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except HTTPError:
            return  # it answers
        except (URLError, OSError):
            time.sleep(0.2)
    raise LeftOut(f"{command[0]} does not answer at {url}, see {log}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    """The program and what it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_LIMIT_S)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def serve(stack: ExitStack, peer: Peer, root: Path) -> list[dict[str, Any]]:
    """Start the peer and its mock; the ways to ask it, for `hotloop bench peers --peers`. Raises LeftOut."""
    programs = installed(peer, root)
    folder = root / f"{peer.name.lower()}-run"
    shutil.rmtree(folder, ignore_errors=True)  # its database knows responses of another run
    folder.mkdir()
    port, mock_port = free_port(), free_port()
    mock = f"http://127.0.0.1:{mock_port}"
    places = {"port": port, "spare": free_port(), "mock": mock, "bin": programs, "folder": folder.resolve()}
    for name, text in peer.files.items():
        (folder / name).write_text(text.format(**places))
    mocked = [sys.executable, "-m", "hotloop.bench.peer_mock", str(mock_port)]
    started(stack, mocked, {}, folder / "mock.log", f"{mock}/health")
    command = [part.format(**places) for part in peer.command]
    started(stack, command, peer.environment, folder / "server.log", f"http://127.0.0.1:{port}{peer.health}")
    url = {"url": f"http://127.0.0.1:{port}/v1", "name": peer.name, "api_key": peer.api_key, "mock": mock}
    return [{**url, "transport": transport, "mode": mode} for transport, mode in peer.ways]


def main(folder: str, *options: str) -> int:
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    ways: list[dict[str, Any]] = []
    left_out: list[str] = []
    with ExitStack() as stack:
        for peer in PEERS:
            try:
                ways += serve(stack, peer, root)
            except LeftOut as error:
                left_out.append(f"{peer.name} is left out: {error}")
                print(left_out[-1], file=sys.stderr, flush=True)
        peers = root / "peers.json"
        peers.write_text(json.dumps(ways, indent=1))
        bench = [sys.executable, "-m", "hotloop", "bench", "peers", "--peers", str(peers), *options]
        code = subprocess.run(bench, check=False).returncode
    for line in left_out:
        print(line, file=sys.stderr)
    return code or (LEFT_OUT if left_out else 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
