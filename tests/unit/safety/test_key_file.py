import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hotloop.cli import main
from hotloop.safety.key_file import KeyFileError, key_ring, rotate
from hotloop.session.principal import LOCAL


def test_the_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "keys"
    sealed = key_ring(path).seal(LOCAL, "reasoning", "a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert key_ring(path).open(LOCAL, "reasoning", sealed) == "a"
    assert [entry.name for entry in path.parent.iterdir()] == ["keys"]


def test_workers_that_start_together_share_one_key(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    with ThreadPoolExecutor(8) as pool:
        rings = list(pool.map(key_ring, [path] * 8))
    sealed = rings[0].seal(LOCAL, "reasoning", "a")
    assert {ring.open(LOCAL, "reasoning", sealed) for ring in rings} == {"a"}


def test_a_rotated_key_opens_until_it_is_retired_also_in_a_process_that_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    before = key_ring(path)
    old = before.seal(LOCAL, "reasoning", "old")
    assert rotate(path, keep=1) == 0
    after = key_ring(path)
    new = after.seal(LOCAL, "reasoning", "new")
    assert after.open(LOCAL, "reasoning", old) == "old"
    assert before.open(LOCAL, "reasoning", new) == "new"  # looked into the file
    assert rotate(path, keep=1) == 1
    assert key_ring(path).open(LOCAL, "reasoning", old) is None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "mode", "says"),
    [
        (b"", 0o600, "no key in it"),
        (b"# only a comment\n", 0o600, "no key in it"),
        (b"# one\nc2hvcnQ=\n", 0o600, ":2: not a key"),
        (b"*\n", 0o600, ":1: not a key"),
        (b"x", 0o640, "mode 600"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(tmp_path: Path, content: bytes, mode: int, says: str) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(KeyFileError) as refused:
        key_ring(path)
    assert str(path) in str(refused.value)
    assert says in str(refused.value)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError):
        key_ring(tmp_path)
    with pytest.raises(KeyFileError):
        key_ring(tmp_path / "file" / "keys" if (tmp_path / "file").write_bytes(b"") else tmp_path)


def test_a_key_file_that_is_gone_leaves_a_running_process_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    ring = key_ring(path)
    sealed = ring.seal(LOCAL, "reasoning", "a")
    foreign = key_ring(tmp_path / "other").seal(LOCAL, "reasoning", "b")
    path.unlink()
    assert ring.open(LOCAL, "reasoning", foreign) is None
    assert ring.open(LOCAL, "reasoning", sealed) == "a"


def test_the_command_rotates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    key_ring(path)
    assert main(["keys", "rotate", "--file", str(path), "--keep", "0"]) == 0
    assert "1 retired" in capsys.readouterr().out
    assert main(["keys", "rotate", "--file", str(path), "--keep", "-1"]) == 2
    path.chmod(0o644)
    assert main(["keys", "rotate", "--file", str(path)]) == 2
    assert "mode 600" in capsys.readouterr().err
