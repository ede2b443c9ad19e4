import json
import subprocess
from pathlib import Path

from hotloop.bench.goals import Goal, judge
from hotloop.bench.machine import Surroundings, commit, cpu_model
from hotloop.bench.report import Findings, Report, Table
from hotloop.bench.rounds import Figure

GOALS = (Goal("flat", 1.1), Goal("later", 150, at_most=False, judged=False))
FINDINGS = Findings(
    Table("Per turn", ("arm", "CPU µs"), [("websocket", "590.1"), ("raw", "40.5")]),
    {"flat": Figure(1.02, 0.01, 11), "later": Figure(10.5, 0.4, 11)},
    ["Scripted engine: no model runs."],
    {"websocket": [{"cpu_s": 0.00059}]},
)


def report() -> Report:
    surroundings = Surroundings("hotloop bench turn --quick")
    surroundings.ended()
    return Report("a bench", surroundings, FINDINGS, GOALS, judge(GOALS, FINDINGS.figures, {}))


def test_a_report_says_where_it_ran_and_with_what() -> None:
    text = report().text()
    for word in ("machine   ", "cores", "python 3.", "uvloop ", "load      ", "command   hotloop bench turn --quick"):
        assert word in text


def test_the_goal_lines_come_last_behind_table_and_shown_figures() -> None:
    lines = report().text().splitlines()
    assert lines[-1].startswith("goal flat value 1.02 limit 1.1 ok")
    assert lines.index("| websocket |  590.1 |") < lines.index("shown later value 10.5 later limit 150 spread 0.4")


def test_the_table_is_one_that_markdown_reads() -> None:
    assert FINDINGS.table.lines()[2:5] == ["| arm       | CPU µs |", "|-----------|-------:|", "| websocket |  590.1 |"]


def test_the_json_file_holds_every_rounds_sample(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    report().write_json(path)
    result = json.loads(path.read_text())
    assert result["samples"] == {"websocket": [{"cpu_s": 0.00059}]}
    assert result["goals"][0]["outcome"] == "ok"
    assert result["tables"][0] == {
        "title": "Per turn",
        "head": ["arm", "CPU µs"],
        "rows": [["websocket", "590.1"], ["raw", "40.5"]],
    }
    assert result["goal_lines"] == report().text().splitlines()[-2:]
    assert result["surroundings"]["command"] == "hotloop bench turn --quick"


def test_the_cpu_is_named_even_where_the_kernel_does_not(tmp_path: Path) -> None:
    assert cpu_model(tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 3 GHz"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    done = subprocess.run(["git", *identity, "-C", folder, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_run_says_which_commit_it_measured_and_whether_the_source_was_changed(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert commit(package) == "", "no source tree"
    git(tmp_path, "init", "-q")
    assert commit(package) == "", "a package installed inside of somebody else's"
    git(tmp_path, "add", "package/__init__.py")
    git(tmp_path, "commit", "-qm", "first")
    head = git(tmp_path, "rev-parse", "--short", "HEAD")
    (tmp_path / "page.md").write_text("not the source")
    assert commit(package) == head
    (package / "__init__.py").write_text("x = 1\n")
    assert commit(package) == f"{head}+changes"
