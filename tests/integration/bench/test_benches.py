"""The benches end to end, on a scale that takes seconds: real servers, real sockets, figures not judged."""

import argparse
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hotloop.bench import chain, floor, load, peers, render, rollout, stall, turn, turn_plan
from hotloop.bench.agent import Agent, Input, Split
from hotloop.bench.answers import BenchError
from hotloop.bench.arms import TOLERANCE
from hotloop.bench.catalog import Bench
from hotloop.bench.clients import HttpClient
from hotloop.bench.goals import Goal
from hotloop.bench.peer_chat import Target
from hotloop.bench.report import Findings
from hotloop.bench.rollout_plan import COLD, HOT, HOT_HTTP, Plan, Series
from hotloop.bench.scripts import write_script
from hotloop.bench.servers import API_KEY, UP_MBIT, hotloop_server
from hotloop.bench.vocabularies import FAST, LIBRARY
from hotloop.bench.workload import encoded
from hotloop.cli.bench import run
from hotloop.formats.registry import FAMILIES

TINY_TURNS = turn_plan.Plan(histories=(1_000, 4_000), answers=("short",), rounds=2, turns=4, resent=(4_000,))
TINY_FLOOR = floor.Plan(rounds=2, turns=3, long_turns=1, round_trips=5, streams=1, frames=32)


@pytest.fixture(scope="module")
def turns_measured() -> Findings:
    return turn.measure(TINY_TURNS)


def test_turns_are_measured_at_the_lengths_asked_for_in_every_way(turns_measured: Findings) -> None:
    findings = turns_measured
    assert set(findings.figures) >= {"flat_4k", "first_delta_4k", "vs_resend_4k"}
    ways = [
        f"{transport} {mode} caches {caches}"
        for transport in ("http", "websocket")
        for mode in ("previous", "resend")
        for caches in ("off", "on")
    ]
    judged = ("websocket previous caches on", "http resend caches off")
    assert [row[:4] for row in findings.table.rows] == [
        ("raw", "-", "-", "-"),
        *(
            (way, tokenizer, history, "short")
            for way in ways
            for tokenizer, history in [(FAST, "1,000"), (FAST, "4,000"), *[(LIBRARY, "4,000")] * (way in judged)]
        ),
    ]
    lengths = [(LIBRARY, "4,000"), (FAST, "1,000"), (FAST, "4,000")]
    assert [row[:2] for row in findings.more[0].rows] == lengths
    assert all(figure.median > 0 for figure in findings.figures.values())
    assert "Scripted engine" in "".join(findings.notes)


def test_long_answers_too_are_measured_at_the_lengths_asked_for() -> None:
    plan = turn_plan.Plan((1_000,), answers=("short", "long"), rounds=2, turns=4, all_ways=False, resent=())
    rows = {(row[0], row[3]): float(row[4].replace(",", "")) for row in turn.measure(plan).table.rows[1:]}
    assert set(rows) == {(way, answer) for way, _ in rows for answer in plan.answers}
    assert all(tokens == pytest.approx(1_000, rel=TOLERANCE) for tokens in rows.values())


def test_rollouts_are_played_on_both_networks_and_on_the_real_model(monkeypatch: pytest.MonkeyPatch) -> None:
    play, turns = Agent.play, list[int]()

    def counted(agent: Agent, inputs: Sequence[Input]) -> Split:
        turns.append(len(inputs))
        return play(agent, inputs)

    monkeypatch.setattr(Agent, "play", counted)
    near = Series(4_000, "loopback", "interactive", 3, 2, with_hot_http=True)
    far = Series(4_000, "WAN", "interactive", 2)
    crowd = tuple(Series(1_000, "loopback", mix, 1, tokenizer=FAST) for mix in ("interactive", "heavy"))
    real = Series(0, "loopback", "chat", 12, tokenizer=FAST)
    findings = rollout.measure(Plan((near, far, *crowd, real), crowd_speed=1_000))
    assert [row[:2] for row in findings.table.rows] == [
        *((near.name, arm) for arm in (HOT, COLD, HOT_HTTP)),
        *((series.name, arm) for series in (far, *crowd, real) for arm in (HOT, COLD)),
    ]
    assert turns[:3] == [1, 1, 1], "every arm's server has had a turn before the first one is measured"
    assert turns.count(1) == 3 + 2 + 2, "on each pair of servers"
    taken = findings.samples
    for name, (first, *_) in taken.items():
        parts = sum(first[f"{part}_s"] for part in ("client", "network", "server", "engine", "tools"))
        assert parts == pytest.approx(first["total_s"]), name
    hot, cold = (taken[f"{near.name}, {arm}"][0] for arm in (HOT, COLD))
    assert hot["engine_s"] == pytest.approx(cold["engine_s"], rel=0.1), "the engine has the same work in both arms"
    assert hot["prompt_tokens"] == pytest.approx(60_000, rel=0.05)
    round_trips = 0.04 * taken[f"{far.name}, {HOT}"][0]["turns"]
    assert taken[f"{far.name}, {HOT}"][0]["network_s"] >= 0.95 * round_trips
    last_request_s = 60_000 * 1.5 * 8 / (UP_MBIT * 1e6)  # a token of this text has more than 1.5 characters
    cold_far = taken[f"{far.name}, {COLD}"][0]["network_s"]
    assert cold_far >= 0.95 * round_trips + last_request_s, "a resent history has to pass the narrow link"


def test_load_is_measured_beside_slow_readers_and_while_a_large_create_arrives() -> None:
    arms = (load.Arm(4, 250), load.Arm(4, 250, slow=2))
    findings = load.measure(load.Plan(arms, window_s=1.0, rounds=1, idle=20))
    assert set(findings.figures) == {goal.name for goal in load.GOALS}
    assert [row[0] for row in findings.table.rows] == [arm.name for arm in arms]
    assert all(float(row[1]) > 0 and float(row[6]) > 0 for row in findings.table.rows), "tokens came, at gaps"


def test_stalls_are_measured_by_every_way_a_message_comes() -> None:
    findings = stall.measure(
        stall.Plan(window_s=0.1, rounds=1, only=("a steer of 15", "a conversation of one", "nobody reads"))
    )
    assert [row[0] for row in findings.table.rows] == [
        "15 MB of `{}` in a member that nobody reads",
        "a steer of 15 MB of `{}`",
        "a conversation with 15 MB of `{}` that nobody reads",
        "a conversation of one item, 15 MB of `{}` in its annotations",
    ]
    assert all(float(row[1]) > 0 and float(row[3]) > 0 for row in findings.table.rows)


def test_another_server_is_driven_with_the_same_work(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    write_script(script)
    with hotloop_server(script, None) as other:
        peer = Target("other", other.host, other.port, "/v1/responses", other.model, API_KEY, "http", False)
        findings = peers.measure(peers.Plan((1_000,), 2, ("loopback", "WAN"), rollouts=1), [peer])
        ways = [("hotloop", "websocket previous"), ("hotloop", "http full"), ("other", "http previous")]
        arms = [(*way, network) for network in ("loopback", "WAN") for way in ways]
        assert [row[:3] for row in findings.table.rows] == arms
        assert [row[:3] for row in findings.more[0].rows] == arms
        gone = replace(peer, name="gone", port=1)
        found = peers.measure(peers.Plan((1_000,), 1), [peer, gone])
        assert [row[0] for row in found.table.rows] == ["hotloop", "hotloop", "other"]
        assert found.notes[-1] == "Left out: gone at 127.0.0.1:1, http previous: Connection refused"
        assert all(float(row[5]) >= 40 for row in findings.more[0].rows[3:]), "ms a turn, a round trip among them"
    with pytest.raises(BenchError, match="other at "):
        peers.measure(peers.Plan((1_000,), 2), [peer])


def ask_the_dead(script: Path) -> None:
    with hotloop_server(script, None) as server, HttpClient(server.host, server.port, api_key=API_KEY) as client:
        os.kill(server.pid, signal.SIGKILL)
        client.ask(encoded({"model": server.model, "input": "hello", "stream": True}))


def test_a_server_that_dies_in_the_middle_is_one_line_that_says_so(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    write_script(script)
    with pytest.raises(BenchError, match="a server ended in the middle of it, code -9"):
        ask_the_dead(script)


def test_a_turn_and_a_delta_are_measured_against_both_floors() -> None:
    findings = floor.measure(TINY_FLOOR)
    assert set(findings.figures) == {goal.name for goal in floor.GOALS}
    assert [row[0] for row in findings.table.rows] == ["hotloop", "hotloop through ASGI", "raw uvloop", "ASGI sends"]


@pytest.mark.long
@pytest.mark.timeout(600)  # 200k tokens in every family
def test_rendering_is_measured_in_every_family_and_each_goal_is_that_of_the_worst() -> None:
    plan = render.Plan(histories=(1_000, 200_000), rounds=2, generic=False, weighed=20_000)
    findings = render.measure(plan)
    assert set(findings.figures) == {goal.name for goal in render.GOALS}
    assert [row[0] for row in findings.table.rows] == [family for family in FAMILIES for _ in plan.histories]
    lengths = [int(row[2].replace(",", "")) for row in findings.table.rows]
    assert all(abs(length - 200_000) < 20_000 for length in lengths[1::2])
    assert findings.figures["bytes_per_token"].median > 4


def test_a_vocabulary_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no such file"):
        render.load_tokenizer(tmp_path / "gone.gguf")


def test_the_old_end_of_a_chain_is_measured_against_its_beginning_on_both_transports() -> None:
    findings = chain.measure(chain.Plan(old=30, rounds=2, turns=2))
    assert set(findings.figures) == {goal.name for goal in chain.GOALS}
    rows = {row[:2]: float(row[2].replace(",", "")) for row in findings.table.rows}
    assert rows["websocket", "30"] > 2 * rows["websocket", "10"] * 0.8
    assert rows["http", "30"] == rows["websocket", "30"], "both transports see the same tokens"


def arguments(bench: Bench, tmp_path: Path, *, check: bool) -> argparse.Namespace:
    return argparse.Namespace(chosen=bench, quick=True, check=check, json=tmp_path / "result.json", plot=None)


def tiny_bench(limit: float, measure: Callable[[argparse.Namespace], Findings]) -> Bench:
    goals = (Goal("flat_4k", limit), Goal("vs_resend_4k", 20, judged=False))
    return Bench("turn", "a bench", "seconds", goals, measure, measure)


@pytest.mark.parametrize(("limit", "check", "code"), [(1000, True, 0), (0.0001, True, 1), (0.0001, False, 0)])
def test_check_turns_a_short_goal_into_exit_code_1(
    limit: float,
    check: bool,
    code: int,
    turns_measured: Findings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = tiny_bench(limit, lambda _: turns_measured)
    assert run(arguments(bench, tmp_path, check=check)) == code
    shown = capsys.readouterr()
    assert "goal flat_4k value" in shown.out
    assert "shown vs_resend_4k" in shown.out
    assert ("flat_4k is short" in shown.err) == (code == 1)
    assert json.loads((tmp_path / "result.json").read_text())["figures"]["flat_4k"]["rounds"] == TINY_TURNS.rounds


def write_no_script(path: Path) -> None:
    path.write_text("not a script: [")


def test_a_server_that_does_not_start_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = tiny_bench(1, lambda _: turn.measure(TINY_TURNS))
    monkeypatch.setattr("hotloop.bench.turn.write_script", write_no_script)
    assert run(arguments(bench, tmp_path, check=True)) == 2
    assert capsys.readouterr().err.startswith("hotloop: a server did not start: ")
