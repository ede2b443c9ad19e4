"""The document's tables are those of the last run, and what is written around them stays."""

import json
from pathlib import Path
from typing import Any

import pytest
from tools.bench.document import markers, refresh
from tools.bench.readme import WAYS, refresh_readme
from tools.bench.run import DOCUMENT, FAILED, SHORT, STEPS, Outcome, Step, exit_code, play

from hotloop.bench.catalog import BENCHES
from hotloop.bench.goals import Goal, judge
from hotloop.bench.machine import Surroundings
from hotloop.bench.report import Findings, Report, Table
from hotloop.bench.rounds import Figure
from hotloop.bench.vocabularies import FAST, LIBRARY

FINDINGS = Findings(
    Table("Per turn", ("arm", "µs"), [("websocket", "590")]), {"flat": Figure(1.02, 0.01, 11)}, ["Read me."]
)


def result(tmp_path: Path, **changed: Any) -> Path:
    surroundings = Surroundings("hotloop bench turn", **changed)
    surroundings.ended()
    goals = (Goal("flat", 1.1),)
    path = tmp_path / "result.json"
    Report("a bench: of turns", surroundings, FINDINGS, goals, judge(goals, FINDINGS.figures, {})).write_json(path)
    return path


def test_a_section_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = markers("turn")
    page.write_text(f"before\n\n{begin}old\n{end}\nafter\n")
    refresh(page, "turn", result(tmp_path, cpu="Some CPU"), "plots/turn.svg")
    once = page.read_text()
    refresh(page, "turn", result(tmp_path, cpu="Some CPU"), "plots/turn.svg")
    assert once.startswith(f"before\n\n{begin}\n```\nmachine   Some CPU, ")
    assert once.endswith(f"![of turns](plots/turn.svg)\n\n{end}\nafter\n")
    for shown in (
        "command   hotloop bench turn\n",
        "| websocket | 590 |",
        "* Read me.",
        "goal flat value 1.02 limit 1.1 ok",
    ):
        assert once.count(shown) == 1
    assert "old" not in once
    assert page.read_text().count(begin) == 1


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    with pytest.raises(ValueError, match="there is no <!-- bench turn -->"):
        refresh(page, "turn", result(tmp_path), "turn.svg")
    assert page.read_text() == "nothing\n"


def test_every_bench_is_run_and_has_its_place_in_the_document() -> None:
    assert {step.name for step in STEPS} == {bench.name for bench in BENCHES}
    text = DOCUMENT.read_text()
    for step in STEPS:
        assert [text.count(marker) for marker in markers(step.name)] == [1, 1], step.name


def test_the_readmes_figures_are_those_of_the_results(tmp_path: Path) -> None:
    head = ["arm", "tokenizer", "history", "answer", "CPU µs"]
    costs = zip(WAYS, ("513.3", "8,166.1", "43,229.2"), strict=True)
    rows = [[way, FAST, "1,000", "short", cpu] for way, cpu in costs]
    rows += [[way, LIBRARY, "1,000", "short", "9.0"] for way in WAYS]
    flat = {"median": 0.994, "spread": 0.036}
    turn = {"tables": [{"head": head, "rows": rows}], "figures": {"flat_200k": flat, "flat_1m": flat}}
    (tmp_path / "turn.json").write_text(json.dumps(turn))
    readme = tmp_path / "README.md"
    readme.write_text("a\n" + "".join(markers("readme")) + "b\n")
    refresh_readme(readme, tmp_path)
    assert readme.read_text() == "a\n" + "".join(markers("readme")) + "b\n", "one result is missing"
    (tmp_path / "floor.json").write_text(json.dumps({"figures": {"fixed_turn": {"median": 5.93}}}))
    refresh_readme(readme, tmp_path)
    text = readme.read_text()
    assert "| 1,000 | 0.51 ms | 8.2 ms | 43 ms |\n" in text
    assert "costs 0.99 ± 0.04 times one behind 1,000" in text
    assert "5.9 bare socket round trips" in text
    assert text.startswith("a\n") and text.endswith("b\n")


def test_the_readme_has_a_place_for_them() -> None:
    text = (DOCUMENT.parents[1] / "README.md").read_text()
    assert [text.count(marker) for marker in markers("readme")] == [1, 1]


def test_a_bench_that_fails_is_told_with_its_last_words_and_leaves_its_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(markers("broken")))
    program = tmp_path / "broken.py"
    program.write_text("import sys\nprint('first')\nsys.exit('no peer answers')\n")
    outcome = play(Step("broken", program=(str(program),)), quick=True, document=page, results=tmp_path)
    assert (outcome.code, outcome.said) == (FAILED, "no peer answers")
    assert page.read_text() == "".join(markers("broken"))


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0), 0), ((0, SHORT, 0), SHORT), ((SHORT, FAILED), FAILED), ((0, 3), FAILED), ((), 0)]
)
def test_the_exit_code_tells_of_the_worst(codes: tuple[int, ...], code: int) -> None:
    assert exit_code([Outcome("x", one, "", 0.0) for one in codes]) == code


def test_goals_that_are_short_are_named(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(markers("fake")))
    written = json.loads(result(tmp_path).read_text())
    written["goals"][0]["outcome"] = "short"
    program = tmp_path / "fake.py"
    program.write_text(
        "import sys, pathlib\n"
        f"pathlib.Path(sys.argv[sys.argv.index('--json') + 1]).write_text({json.dumps(written)!r})\n"
        "sys.exit(1)\n"
    )
    outcome = play(Step("fake", program=(str(program),)), quick=False, document=page, results=tmp_path)
    assert (outcome.code, outcome.said) == (SHORT, "short: flat")
    assert "goal flat" in page.read_text()
