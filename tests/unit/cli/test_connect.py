"""`hotloop connect` as a command: what it prints, writes and refuses."""

import tomllib
from pathlib import Path

import pytest

from hotloop.cli import main

URL = "http://127.0.0.1:8000/v1"
ARGUMENTS = ("--url", URL, "--model", "tiny")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("CODEX_HOME", "XDG_CONFIG_HOME", "HOTLOOP_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_stdout_is_the_configuration_and_stderr_says_where_and_how_to_undo(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["connect", "codex", *ARGUMENTS]) == 0
    said = capsys.readouterr()
    assert tomllib.loads(said.out)["model_providers"]["hotloop"]["base_url"] == URL
    assert str(home / ".codex" / "hotloop.config.toml") in said.err
    assert "to undo it" in said.err
    assert not (home / ".codex").exists()


def test_write_creates_a_file_for_the_user_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "opencode", *ARGUMENTS, "--write"]) == 0
    path = home / ".config" / "opencode" / "opencode.json"
    assert '"baseURL": "http://127.0.0.1:8000/v1"' in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"to undo it: rm {path}" in capsys.readouterr().err


def test_write_merges_and_what_it_says_undoes_it(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(home))
    path = home / "hotloop.config.toml"
    old = "# mine\n[tui]\nanimations = false\n"
    path.write_text(old)
    path.chmod(0o640)
    assert main(["connect", "codex", *ARGUMENTS, "--write"]) == 0
    assert tomllib.loads(path.read_text())["model"] == "tiny"
    assert path.stat().st_mode & 0o777 == 0o640
    undo = capsys.readouterr().err.strip().rpartition("to undo it: mv ")[2].split()
    assert undo[1] == str(path)
    Path(undo[0]).rename(undo[1])
    assert path.read_text() == old


def test_a_second_write_changes_nothing_and_a_backup_is_never_overwritten(home: Path) -> None:
    path = home / ".codex" / "hotloop.config.toml"
    path.parent.mkdir()
    path.write_text("[tui]\nanimations = false\n")
    for model in ("tiny", "tiny", "other"):
        assert main(["connect", "codex", "--url", URL, "--model", model, "--write"]) == 0
    backups = sorted(path.parent.glob("*.backup-*"))
    assert [tomllib.loads(backup.read_text()).get("model") for backup in backups] == [None, "tiny"]


def test_a_link_into_other_files_stays_a_link(home: Path) -> None:
    target = home / "dotfiles.json"
    target.write_text("{}")
    path = home / ".config" / "opencode" / "opencode.json"
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    assert main(["connect", "opencode", *ARGUMENTS, "--write"]) == 0
    assert path.is_symlink()
    assert "hotloop" in target.read_text()


def test_a_file_in_the_way_is_named_and_left_alone(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = home / ".codex" / "hotloop.config.toml"
    path.parent.mkdir()
    path.write_text('model = "gpt-5"\n')
    assert main(["connect", "codex", *ARGUMENTS, "--write"]) == 2
    assert f"{path}: it sets model already" in capsys.readouterr().err
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert path.read_text() == 'model = "gpt-5"\n'


def test_a_server_that_is_not_there_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "codex", "--url", "http://127.0.0.1:9/v1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_agents_program_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "agents", *ARGUMENTS]) == 0
    compile(capsys.readouterr().out, "program", "exec")
