"""The Codex CLI, unmodified, with the profile that `hotloop connect codex` writes."""

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.real_clients import NODE_MODULES, Ended, counted, run_client, scripted
from tests.support.repair import AGAIN, DONE, PATCH, RUN_CHECK, TASK, assert_repaired, repairs, write_broken
from tests.support.served_command import Served
from tests.support.wire_cutter import wire_cutter

pytestmark = pytest.mark.long

OWN_SETTINGS = """\
check_for_update_on_startup = false

[analytics]
enabled = false

[otel]
metrics_exporter = "none"

[features]
plugins = false
apps = false
"""


def in_code(call: str) -> dict[str, str]:
    """A call of the tool `exec`, whose input is a program."""
    return {"name": "exec", "input": f"text(await tools.{call});\n"}


SCRIPT = repairs(
    [
        {"name": "exec_command", "arguments": {"cmd": "cat calc.py"}},
        in_code('exec_command({cmd: "cat calc.py"})'),
    ],
    [
        {"name": "apply_patch", "input": PATCH},
        {"name": "exec_command", "arguments": {"cmd": f"apply_patch <<'END'\n{PATCH}END\n"}},
        in_code(f"apply_patch({json.dumps(PATCH)})"),
    ],
    [
        {"name": "exec_command", "arguments": {"cmd": RUN_CHECK}},
        in_code(f"exec_command({{cmd: {json.dumps(RUN_CHECK)}}})"),
    ],
)
OVER_HTTP = ("-c", "model_providers.hotloop.supports_websockets=false")


@dataclass(frozen=True, slots=True)
class Codex:
    """A user's Codex: a home with settings of their own, and a folder to work in."""

    home: Path
    folder: Path

    def connect(self, url: str, model: str) -> None:
        """`hotloop connect codex --write`."""
        command = [sys.executable, "-m", "hotloop", "connect", "codex", "--url", url, "--model", model, "--write"]
        environment = {"CODEX_HOME": str(self.home), "HOME": str(self.home)}
        subprocess.run(command, env=environment, check=True, capture_output=True)

    def run(self, *arguments: str) -> Ended:
        """`codex exec` with the profile; the workspace is the test's own, so nothing is asked or fenced in."""
        codex = NODE_MODULES / ".bin" / "codex"
        manners = ("--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
        command: list[str | Path] = [codex, "exec", "--profile", "hotloop", *manners, *arguments]
        return run_client(command, home=self.home, cwd=self.folder, CODEX_HOME=str(self.home))

    def repair(self, *arguments: str) -> list[dict[str, Any]]:
        """Have the program repaired; returns what Codex reported, as its events."""
        ended = self.run(*arguments, TASK)
        assert ended.code == 0, f"{ended.out}\n{ended.err}"
        assert_repaired(self.folder)
        events = [json.loads(line) for line in ended.out.splitlines() if line.startswith("{")]
        assert said(events)[-1] == DONE
        return events


def said(events: list[dict[str, Any]]) -> list[str]:
    """What the agent said."""
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item["text"] for item in items if item["type"] == "agent_message"]


def done(events: list[dict[str, Any]]) -> list[str]:
    """What the agent did, by kind."""
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item["type"] for item in items if item["type"] in ("command_execution", "file_change")]


@pytest.fixture
def codex(tmp_path: Path) -> Codex:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(OWN_SETTINGS)
    return Codex(home, write_broken(tmp_path / "work"))


@contextmanager
def serving(codex: Codex, model: str) -> Generator[Served]:
    with scripted(codex.home.parent, SCRIPT, model=model) as server:
        codex.connect(server.url, model)
        yield server


# An unknown model gets function tools and patches through a shell command; a known one a custom tool with a Lark grammar;
# a newer one a namespace of tools in an item, and writes programs that call the rest.
SLUGS = ("some-model", "gpt-5.5", "gpt-5.6-sol")
TOOLS_IN_ITEMS = frozenset({"gpt-5.6-sol"})  # nothing is known of them when the connection is warmed up


@pytest.mark.parametrize("model", SLUGS)
def test_it_repairs_a_program_over_websocket(codex: Codex, model: str) -> None:
    with serving(codex, model) as server, counted(server) as turns:
        events = codex.repair()
    assert done(events) == ["command_execution", "file_change", "command_execution"]
    # The warm-up and four turns, on one chain: nothing was sent or rendered twice.
    assert turns.completed == {"websocket": 5}
    assert not turns.others
    assert turns.fallbacks == ({"context_changed": 1} if model in TOOLS_IN_ITEMS else {})
    assert turns.recognised_tokens == 0


@pytest.mark.parametrize("model", SLUGS)
def test_it_repairs_a_program_over_http(codex: Codex, model: str) -> None:
    with serving(codex, model) as server, counted(server) as turns:
        events = codex.repair(*OVER_HTTP)
    assert done(events) == ["command_execution", "file_change", "command_execution"]
    assert turns.completed == {"sse": 4}
    assert not turns.others
    assert turns.recognised_tokens > 0


def test_a_dropped_connection_is_taken_up_again(codex: Codex) -> None:
    with serving(codex, "gpt-5.5") as server, wire_cutter(server.url, cut_at=3) as (cutter, url):
        codex.connect(url, "gpt-5.5")
        with counted(server) as turns:
            codex.repair()
    assert cutter.cuts == 1
    assert set(turns.completed) == {"websocket"}
    assert turns.recognised_tokens > 0  # the history that was sent again


def test_a_refused_upgrade_leads_to_http(codex: Codex) -> None:
    with serving(codex, "gpt-5.5") as server, wire_cutter(server.url, refuse_upgrades=True) as (cutter, url):
        codex.connect(url, "gpt-5.5")
        with counted(server) as turns:
            codex.repair()
    assert cutter.refused == 1  # it does not try again
    assert turns.completed == {"sse": 4}


def test_a_session_is_resumed_by_another_process(codex: Codex) -> None:
    with serving(codex, "gpt-5.5") as server:
        codex.repair()
        with counted(server) as turns:
            ended = codex.run("resume", "--last", AGAIN)
    events = [json.loads(line) for line in ended.out.splitlines() if line.startswith("{")]
    assert said(events) == ["The sign in add."]
    assert set(turns.completed) == {"websocket"}
    assert turns.recognised_tokens > 0


def test_the_users_own_settings_are_left_alone(codex: Codex) -> None:
    codex.connect("http://127.0.0.1:8000/v1", "some-model")
    assert (codex.home / "config.toml").read_text() == OWN_SETTINGS
