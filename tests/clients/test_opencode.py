"""opencode, unmodified, with the provider that `hotloop connect opencode` writes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.real_clients import NODE_MODULES, counted, run_client, scripted
from tests.support.repair import DONE, RUN_CHECK, TASK, assert_repaired, repairs, write_broken

OPENCODE = NODE_MODULES / "opencode-linux-x64-baseline" / "bin" / "opencode"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform != "linux", reason="its package for Linux on x64 is pinned"),
]

# Without the agent that names sessions: it asks beside the first turn, and the script has no answer for it.
OWN_SETTINGS = {"autoupdate": False, "share": "disabled", "agent": {"title": {"disable": True}}}
SCRIPT = repairs(
    [{"name": "read", "arguments": {"filePath": "calc.py"}}],
    [{"name": "edit", "arguments": {"filePath": "calc.py", "oldString": "a - b", "newString": "a + b"}}],
    [{"name": "bash", "arguments": {"command": RUN_CHECK, "description": "Run the check"}}],
)


def test_it_repairs_a_program(tmp_path: Path) -> None:
    home = tmp_path / "home"
    file = home / ".config" / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(OWN_SETTINGS))
    folder = write_broken(tmp_path / "work")
    with scripted(tmp_path, SCRIPT, model="some-model") as server:
        connect = [sys.executable, "-m", "hotloop", "connect", "opencode", "--url", server.url, "--write"]
        subprocess.run(connect, env={"HOME": str(home)}, check=True, capture_output=True)
        with counted(server) as turns:
            command: list[str | Path] = [OPENCODE, "run", "--model", "hotloop/some-model", "--format", "json", TASK]
            ended = run_client(
                command,
                home=home,
                cwd=folder,
                OPENCODE_DISABLE_AUTOUPDATE="1",
                OPENCODE_DISABLE_MODELS_FETCH="1",
                OPENCODE_DISABLE_LSP_DOWNLOAD="1",
            )
    assert ended.code == 0, f"{ended.out}\n{ended.err}"
    assert_repaired(folder)
    parts = [json.loads(line)["part"] for line in ended.out.splitlines() if line.startswith("{")]
    assert [part["tool"] for part in parts if part["type"] == "tool"] == ["read", "edit", "bash"]
    assert [part["text"] for part in parts if part["type"] == "text"][-1] == DONE
    assert turns.completed == {"sse": 4}
    assert not turns.others
    assert turns.recognised_tokens > 0
