"""docs/compatibility.md keeps its promises: each line has a state and names a test, and every test it names exists."""

import re
from pathlib import Path

import pytest
from tests.support.open_responses import OPENAI_ONLY_EVENTS, OPENAI_ONLY_ITEMS

from hotloop.bench.catalog import BENCHES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "compatibility.md").read_text()
STATES = ("supported", "partial", "not")


def tables() -> list[tuple[str, list[str]]]:
    """Rows of every table, each with the title of its last column but one."""
    rows: list[tuple[str, list[str]]] = []
    title = ""
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if cells and set(cells[0]) == {"-"}:
            continue
        if not cells:
            title = ""
        elif not title:
            title = cells[1]
            assert cells[-1] == "shown by"
        else:
            rows.append((title, cells))
    return rows


def named_tests(cell: str) -> list[Path]:
    """The files a cell names; a name alone stands beside the one before it."""
    found: list[Path] = []
    folder = ROOT
    for name in re.findall(r"`((?:tests/)?[\w/]*\.py)`", cell):
        path = ROOT / name if "/" in name else folder / name
        folder = path.parent
        found.append(path)
    return found


ROWS = tables()


def test_there_are_rows() -> None:
    assert len(ROWS) > 60


@pytest.mark.parametrize("cells", [cells for _, cells in ROWS], ids=[cells[0][:60] for _, cells in ROWS])
def test_a_line_names_tests_that_exist(cells: list[str]) -> None:
    assert len(cells) == 3, f"a bar inside a cell: {cells}"
    tests = named_tests(cells[2])
    assert tests, "no test is named"
    for path in tests:
        assert path.is_file(), path
    for command in re.findall(r"`hotloop bench (\w+)`", cells[2]):
        assert command in {bench.name for bench in BENCHES}


def test_every_feature_is_supported_partial_or_not() -> None:
    states = {cells[0]: re.split(r"[\s,;:]", cells[1])[0] for title, cells in ROWS if title == "state"}
    assert {feature: state for feature, state in states.items() if state not in STATES} == {}


def test_every_deviation_has_a_reason() -> None:
    assert all(cells[1] for title, cells in ROWS if title == "reason")


def test_tests_named_in_running_text_exist() -> None:
    for name in re.findall(r"`(tests/[\w/]+\.py)`", TEXT):
        assert (ROOT / name).is_file(), name


def test_whatever_is_let_through_beside_the_contract_is_listed() -> None:
    section = TEXT[TEXT.index("## Deviations from Open Responses") : TEXT.index("## Deviations from OpenAI")]
    for name in (*OPENAI_ONLY_ITEMS, *(kind for kind in OPENAI_ONLY_EVENTS if "compaction" not in kind)):
        stem, _, end = name.rpartition(".")
        assert name in section or (stem in section and f"`.{end}`" in section), name
