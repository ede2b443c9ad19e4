from hotloop.safety.patterns import WINDOW_CHARS, PatternPolicy
from hotloop.seams.classifier import Decision, Verdict


def test_a_match_is_reported_by_label_with_its_decision() -> None:
    stream = PatternPolicy(flag={"f": "flagged"}, block={"b": "blocked"}).stream("output")
    assert list(stream.feed("flagged and blocked")) == [Verdict("b", Decision.BLOCK), Verdict("f", Decision.FLAG)]


def test_each_rule_reports_once_per_text() -> None:
    stream = PatternPolicy(flag={"f": "x"}).stream("input")
    assert len(stream.feed("x")) == 1
    assert list(stream.feed("x")) == []


def test_a_match_may_span_as_many_deltas_as_the_window_is_wide() -> None:
    stream = PatternPolicy(flag={"f": f"<.{{{WINDOW_CHARS - 2}}}>"}).stream("output")
    found = [verdict.label for char in "<" + "." * (WINDOW_CHARS - 2) + ">" for verdict in stream.feed(char)]
    assert found == ["f"]


def test_without_rules_nothing_is_found_and_nothing_is_blocking() -> None:
    policy = PatternPolicy()
    assert not policy.is_blocking
    assert list(policy.stream("output").feed("anything")) == []
    assert not PatternPolicy(flag={"f": "x"}).is_blocking
    assert PatternPolicy(block={"b": "x"}).is_blocking
