"""Real clients, unmodified, each in a process and a home of its own and without the internet.

`make clients` installs them under `.clients`. What a client did on the wire is read from the server's own records.
"""

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from tests.support.served_command import Served, served

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / ".clients"
NODE_MODULES = CLIENTS / "npm" / "node_modules"
PROGRAMS = ROOT / "tests" / "clients" / "programs"
PATIENCE_S = 120
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens

_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Ended:
    """A client that has ended by itself."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> Any:
        """What a program printed on its last line, as JSON."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}\n{self.err}"
        return json.loads(self.out.strip().splitlines()[-1])


def run_client(command: Sequence[str | Path], *, home: Path, cwd: Path, **environment: str) -> Ended:
    """Run a client to its end; any request to other than the loopback fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**_environment(home), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the machine's but its PATH; every proxy leads nowhere."""
    proxies = {f"{kind}_PROXY": NOWHERE for kind in ("HTTP", "HTTPS", "ALL")}
    proxies |= {name.lower(): value for name, value in proxies.items()}
    loopback = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **proxies, **loopback}


def run_python(name: str, scenario: str, server: Served, home: Path) -> Any:
    """One scenario of a program in `programs/` under the clients' own Python; returns what it printed last."""
    python = CLIENTS / "python" / "bin" / "python"
    command: list[str | Path] = [python, PROGRAMS / f"{name}.py", server.url, server.model, scenario]
    return run_client(command, home=home, cwd=home, OPENAI_API_KEY="none").result


def run_node(name: str, scenario: str, server: Served, home: Path) -> Any:
    """One scenario of a program in `programs/` under node, which finds the clients from a link beside it."""
    program = home / f"{name}.mjs"
    program.write_text((PROGRAMS / program.name).read_text())
    (home / "node_modules").symlink_to(NODE_MODULES)
    command: list[str | Path] = ["node", program, server.url, server.model, scenario]
    return run_client(command, home=home, cwd=home, OPENAI_API_KEY="none").result


@contextmanager
def scripted(
    folder: Path, script: Mapping[str, Any], *, model: str = "scripted", options: Sequence[str] = ()
) -> Generator[Served]:
    """`hotloop serve --engine scripted` with this script, under this model name."""
    path = folder / "script.yaml"
    path.write_text(yaml.safe_dump(dict(script), allow_unicode=True))
    arguments = ("--engine", "scripted", "--script", str(path), "--model-name", model, "--log-level", "warning")
    with served((*arguments, *options)) as server:
        yield server


@dataclass(slots=True)
class Turns:
    """What the server counted: turns by transport, those that did not complete, and how the work was spared."""

    completed: Counter[str] = field(default_factory=Counter[str])
    others: Counter[str] = field(default_factory=Counter[str])
    fallbacks: Counter[str] = field(default_factory=Counter[str])
    recognised_tokens: int = 0


@contextmanager
def counted(server: Served) -> Generator[Turns]:
    """What the server counts during the block, filled in at its end."""
    before = _metrics(server)
    turns = Turns()
    yield turns
    for line, number in (_metrics(server) - before).items():
        name, labels = _name_and_labels(line)
        match name:
            case "requests_total" if labels["outcome"] == "completed":
                turns.completed[labels["transport"]] += number
            case "requests_total":
                turns.others[f"{labels['transport']} {labels['outcome']}"] += number
            case "fallbacks_total":
                turns.fallbacks[labels["reason"]] += number
            case "recognised_tokens_total":
                turns.recognised_tokens += number
            case _:
                pass


def _metrics(server: Served) -> Counter[str]:
    text = httpx.get(server.url.removesuffix("/v1") + "/metrics").text
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("hotloop:")]
    return Counter({line: int(float(number)) for line, _, number in lines})


def _name_and_labels(line: str) -> tuple[str, dict[str, str]]:
    name, _, labels = line.removeprefix("hotloop:").partition("{")
    return name, dict(_LABEL.findall(labels))
