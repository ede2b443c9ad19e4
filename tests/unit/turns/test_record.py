"""What the counters make of finished turns. The turns are made by hand, so that every figure is known."""

from hotloop.seams.engine import Usage
from hotloop.turns.counters import Histogram
from hotloop.turns.record import RecordRing, TurnRecord

# 0.25 s to the engine, of which a tool server had 0.1; first token after 1 s; 11 tokens in 2 s, of which a tool server had 0.5.
WHOLE = TurnRecord(
    transport="websocket",
    model="m",
    outcome="completed",
    received=100.0,
    admitted=100.01,
    rendered=100.2,
    submitted=100.25,
    first_token=101.0,
    last_token=103.0,
    committed=103.1,
    flushed=104.0,
    usage=Usage(prompt_tokens=50, cached_tokens=40, restored_tokens=20, output_tokens=11),
    recognised_items=3,
    recognised_tokens=30,
    fallbacks=("kv_forked", "kv_lost"),
    findings=("a rule",),
    hosted_s=0.6,
    hosted_before_s=0.1,
    hosted=(("files", "list", "completed"), ("files", "call", "failed")),
    bytes_in=1000,
    bytes_out=2000,
)
REFUSED = TurnRecord(transport="http", outcome="refused:model_not_found", received=5.0, flushed=5.5, bytes_in=10)


def counted(*records: TurnRecord) -> RecordRing:
    ring = RecordRing()
    for record in records:
        ring.add(record)
    return ring


def values(histogram: Histogram) -> tuple[int, float]:
    """How many, and their sum."""
    return sum(histogram.counts), round(histogram.total, 6)


def test_a_turn_counts_with_all_that_its_record_says() -> None:
    counters = counted(WHOLE).counters
    assert counters.outcomes == {("websocket", "completed"): 1}
    assert (counters.prompt_tokens, counters.cached_tokens, counters.output_tokens) == (50, 40, 11)
    assert counters.restored_tokens == 20
    assert (counters.recognitions, counters.recognised_tokens) == (1, 30)
    assert counters.fallbacks == {"kv_forked": 1, "kv_lost": 1}
    assert counters.findings == {"a rule": 1}
    assert counters.hosted == {("files", "list", "completed"): 1, ("files", "call", "failed"): 1}
    assert counters.hosted_s == 0.6
    assert (counters.bytes_in, counters.bytes_out) == (1000, 2000)
    assert values(counters.before_engine) == (1, 0.15)
    assert values(counters.first_token) == (1, 1.0)
    assert values(counters.token_gap) == (10, 1.5)
    assert values(counters.per_token) == (1, 0.15)
    assert values(counters.duration) == (1, 4.0)


def test_what_a_turn_never_reached_is_no_value() -> None:
    counters = counted(REFUSED).counters
    assert counters.outcomes == {("http", "refused:model_not_found"): 1}
    assert values(counters.duration) == (1, 0.5)
    assert (counters.bytes_in, counters.recognitions) == (10, 0)
    for histogram in (counters.before_engine, counters.first_token, counters.token_gap, counters.per_token):
        assert values(histogram) == (0, 0)


def test_one_token_has_no_gap() -> None:
    one = TurnRecord(outcome="completed", received=1.0, first_token=2.0, last_token=2.0, usage=Usage(output_tokens=1))
    counters = counted(one).counters
    assert (values(counters.first_token), values(counters.token_gap)) == ((1, 1.0), (0, 0))


def test_turns_add_up_however_often_somebody_asks() -> None:
    ring = RecordRing(size=10)
    for number in range(1, 201):
        ring.add(WHOLE)
        ring.add(REFUSED)
        if number % 7 == 0:
            assert ring.counters.turns == 2 * number
    assert ring.counters.turns == 400
    assert ring.counters.prompt_tokens == 200 * 50
    assert ring.counters.running == 0
    assert len(ring.latest()) == 10


def test_somebody_who_is_told_may_fail() -> None:
    def broken(record: TurnRecord) -> None:
        raise RuntimeError("nobody there")

    ring = RecordRing(tell=broken)
    ring.add(WHOLE)
    assert ring.counters.turns == 1
