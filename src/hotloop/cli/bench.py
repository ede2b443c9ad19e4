"""`hotloop bench`: what hotloop costs on this machine, judged against its goals."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hotloop.bench.answers import BenchError
from hotloop.bench.catalog import BENCHES, Bench
from hotloop.bench.goals import chart_of, failures, judge
from hotloop.bench.machine import Surroundings, command_line
from hotloop.bench.plot import check_plot, draw
from hotloop.bench.report import Report

_ABOUT = """Measure what the server costs on this machine, as ratios of figures taken interleaved in one run.
docs/measurements.md says what is measured and how. Exit code 1: a goal is short (with --check); 2: it cannot be measured."""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("bench", help="measure", description=_ABOUT)
    benches = parser.add_subparsers(dest="bench", metavar="BENCH", required=True)
    for bench in BENCHES:
        question = bench.title.partition(": ")[2]
        goals = ", ".join(map(str, bench.goals))
        one = benches.add_parser(
            bench.name,
            help=question,
            description=f"{question[0].upper()}{question[1:]}. In full it takes {bench.takes}.",
            epilog=f"Goals: {goals}." if goals else "Nothing is judged.",
        )
        one.add_argument("--quick", action="store_true", help="fewer rounds and arms: under a minute")
        one.add_argument("--check", action="store_true", help="exit 1 if a goal is short or was not measured")
        one.add_argument("--json", type=Path, metavar="FILE", help="write the result with every round's sample")
        one.add_argument(
            "--plot", type=Path, metavar="FILE", help="draw the result (.svg or .png; needs hotloop[bench])"
        )
        bench.add_options(one)
        one.set_defaults(run=run, chosen=bench)


def run(arguments: argparse.Namespace) -> int:
    """Measure and report. 1 if a goal is short and that was asked about, 2 if it cannot be measured."""
    bench: Bench = arguments.chosen
    surroundings = Surroundings(command_line())
    try:
        if arguments.plot:
            check_plot(arguments.plot)
        if arguments.json and not arguments.json.absolute().parent.is_dir():
            raise BenchError(f"--json {arguments.json}: there is no such folder")
        findings = (bench.quick if arguments.quick else bench.full)(arguments)
    except (BenchError, OSError) as error:
        print(f"hotloop: {error}", file=sys.stderr)
        return 2
    surroundings.ended()
    verdicts = judge(bench.goals, findings.figures, findings.skipped, is_quick=arguments.quick)
    report = Report(bench.title, surroundings, findings, bench.goals, verdicts)
    print(report.text())
    if arguments.plot:
        charts = findings.charts or [chart_of(bench.goals, findings.figures)]
        draw(arguments.plot, charts, " · ".join([surroundings.command, surroundings.cpu, surroundings.date]))
    if arguments.json:
        report.write_json(arguments.json)
    failed = failures(bench.goals, verdicts) if arguments.check else []
    for failure in failed:
        print(f"hotloop: {failure}", file=sys.stderr)
    return 1 if failed else 0
