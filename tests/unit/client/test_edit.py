import os
from pathlib import Path

import pytest

from hotloop.client.edit import EditRefused, apply_edit


def refused(cwd: Path, path: str, old: str = "a", new: str = "b") -> str:
    with pytest.raises(EditRefused) as caught:
        apply_edit(cwd, path, old, new)
    return str(caught.value)


def test_the_only_occurrence_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    file.write_text("one\ntwo\nthree\n")
    assert apply_edit(tmp_path, "f.py", "two\n", "2\n") == "edited f.py"
    assert file.read_text() == "one\n2\nthree\n"


def test_an_empty_old_creates_the_file_and_its_folders(tmp_path: Path) -> None:
    assert apply_edit(tmp_path, "a/b/c.txt", "", "text") == "created a/b/c.txt"
    assert (tmp_path / "a/b/c.txt").read_text() == "text"


def test_a_created_file_has_the_usual_mode(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    apply_edit(tmp_path, "new", "", "text")
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_the_mode_is_kept_and_nothing_else_is_left_in_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "run.sh"
    file.write_text("a")
    file.chmod(0o750)
    apply_edit(tmp_path, "run.sh", "a", "b")
    assert file.stat().st_mode & 0o7777 == 0o750
    assert os.listdir(tmp_path) == ["run.sh"]


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"one\r\ntwo\r\n", "one\ntwo", "1\n2", b"1\r\n2\r\n"),
        (b"one\r\ntwo\r\n", "one\r\ntwo", "1\r\n2", b"1\r\n2\r\n"),
        (b"one\r\ntwo\r\n", "one", "1\n1", b"1\r\n1\r\ntwo\r\n"),
        (b"one\r\ntwo\n", "two\n", "2\n", b"one\r\n2\n"),  # mixed: as it stands
        (b"\xef\xbb\xbfone\n", "one", "1", b"\xef\xbb\xbf1\n"),
    ],
)
def test_line_ends_and_byte_order_marks_stay(before: bytes, old: str, new: str, after: bytes, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(before)
    apply_edit(tmp_path, "f", old, new)
    assert (tmp_path / "f").read_bytes() == after


def test_what_cannot_be_done_is_told_and_leaves_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("aba")
    (tmp_path / "binary").write_bytes(b"a\xff\xfe")
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path, "f", "x") == "error: old text not found in f"
    assert refused(tmp_path, "f", "a") == "error: old text found 2 times in f, quote more lines"
    assert refused(tmp_path, "g") == "error: no such file: g"
    assert refused(tmp_path, "f", "") == "error: f exists, quote the text to replace"
    assert refused(tmp_path, "binary") == "error: binary is not UTF-8 text"
    assert refused(tmp_path, "folder") == "error: folder is not a file"
    assert refused(tmp_path, "f/g", "") == "error: f/g: part of this path is a file"
    assert refused(tmp_path, "f", "b", "\ud800") == "error: f: the text is not valid Unicode"
    assert refused(tmp_path, "nul\0") == "error: 'nul\\x00' is not a path"
    assert (tmp_path / "f").read_text() == "aba"
    assert (tmp_path / "binary").read_bytes() == b"a\xff\xfe"


def test_overlapping_occurrences_are_ambiguous(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("aaa")
    assert refused(tmp_path, "f", "aa") == "error: old text found 2 times in f, quote more lines"


def test_nothing_outside_the_working_directory_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("a")
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    (cwd / "link").symlink_to(outside)
    (cwd / "up").symlink_to(tmp_path)
    for path in ["../outside", str(outside), "link", "up/outside", "/etc/hostname"]:
        assert refused(cwd, path) == f"error: {path} is outside the working directory"
    assert refused(cwd, "up/new", "") == "error: up/new is outside the working directory"
    assert outside.read_text() == "a"


def test_a_link_inside_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a")
    (tmp_path / "link").symlink_to("f")
    apply_edit(tmp_path, "link", "a", "b")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "f").read_text() == "b"
