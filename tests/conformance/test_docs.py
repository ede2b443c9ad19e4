"""What README and docs name exists: files, links, `make` targets, commands and their options."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest

from hotloop.cli import main

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "hotloop"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOTS = {path.name for folder in (ROOT, PACKAGE) for path in folder.iterdir() if path.is_dir()}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WITH_SUBCOMMANDS = ("agent", "bench", "connect", "keys")
PER_PAGE = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


def code_in(page: Path) -> str:
    """Everything that is set as code, a line for each piece."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"```.*?\n(.*?)```", text, re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*fenced, *(" ".join(span.split()) for span in spans)])


@cache
def help_of(*words: str) -> str | None:
    """What `--help` says of a command; None if there is none of this name."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    return said.getvalue() if ended.value.code == 0 else None


@PER_PAGE
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


@PER_PAGE
def test_every_path_exists(page: Path) -> None:
    named = re.findall(r"(?<![\w./*<{-])([\w-]+(?:/[\w.-]+)*/(?:[\w-]+\.\w+)?)(?![\w*<{])", code_in(page))
    paths = [path for path in named if path.split("/")[0] in ROOTS]
    assert [path for path in paths if not ((ROOT / path).exists() or (PACKAGE / path).exists())] == []


@PER_PAGE
def test_every_make_target_exists(page: Path) -> None:
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)", code_in(page))) <= TARGETS


@PER_PAGE
def test_every_command_exists_with_its_options(page: Path) -> None:
    for command, given in re.findall(r"(?<!profile )\bhotloop ([a-z]+)((?: [^\s`#|&;]+)*)", code_in(page)):
        words = [command]
        arguments = given.split()
        if command in WITH_SUBCOMMANDS and arguments and re.fullmatch(r"[a-z]+", arguments[0]):
            words.append(arguments[0])
        shown = help_of(*words)
        assert shown is not None, f"hotloop {' '.join(words)}"
        unknown = [one for one in arguments if one.startswith("--") and one.partition("=")[0] not in shown]
        assert unknown == [], f"hotloop {' '.join(words)}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_the_checks_look_at_something() -> None:
    code = "\n".join(map(code_in, PAGES))
    assert "make test" in code
    assert "hotloop serve" in code
    assert "turns/bind.py" in code
