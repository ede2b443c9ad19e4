"""What `hotloop bench` says of itself and of what it cannot do."""

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from hotloop.bench.catalog import BENCHES, Bench
from hotloop.cli.bench import add_parser


def parser() -> ArgumentParser:
    made = ArgumentParser(prog="hotloop")
    add_parser(made.add_subparsers())
    return made


@pytest.mark.parametrize("bench", BENCHES, ids=lambda bench: bench.name)
def test_a_bench_says_what_it_answers_how_long_it_takes_and_what_it_must_reach(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        parser().parse_args(["bench", bench.name, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert bench.title.partition(": ")[2][1:] in said
    assert f"In full it takes {bench.takes}." in said
    for goal in bench.goals:
        assert goal.name in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--json", "{tmp}/gone/x.json"], "--json .*there is no such folder"),
        (["--plot", "{tmp}/gone/x.svg"], "--plot .*there is no such folder"),
        (["--url", "https://example.org/v1"], "speaks no TLS"),
        (["--peers", "{tmp}/none.json"], "--peers .*none.json: No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_anything_is_measured(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = parser().parse_args(["bench", "peers", *(option.format(tmp=tmp_path) for option in options)])
    assert given.run(given) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("hotloop: ") and shown.count("\n") == 1
    assert re.search(said, shown)
