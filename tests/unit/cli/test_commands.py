"""The command line as a whole."""

import json
import subprocess
import sys

import pytest

from hotloop.cli import main

LOADED = "import json, sys; from hotloop.cli import main; main(); print(json.dumps([*sys.modules]))"


def test_a_command_loads_nothing_that_only_others_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED, "agent"], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = json.loads(done.stdout)
    assert "hotloop.cli.agent" in loaded
    assert not {"hotloop.cli.bench", "hotloop.formats", "hotloop.app", "numpy"} & set(loaded)


def test_help_shows_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"\n    {name} " in shown for name in ("serve", "agent", "connect", "bench", "demo", "keys"))


def test_an_unknown_command_is_answered_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sevre"])
    assert ended.value.code == 2
    assert "'serve'" in capsys.readouterr().err
