"""What the table of `bench stall` says of pairs made up beforehand, and which messages it sends."""

import json

import pytest

from hotloop.bench import large_bodies as module
from hotloop.bench.large_bodies import braces, large_bodies
from hotloop.bench.servers import RunningServer
from hotloop.bench.stall import findings_of
from hotloop.bench.stalls import NUMBER, numbered

SERVER = RunningServer(0, "127.0.0.1", 1, "m")


def test_a_row_is_the_medians_of_the_rounds_and_how_far_they_spread() -> None:
    findings = findings_of({"a body": [(0.020, 0.030), (0.022, 0.036), (0.024, 0.042)]})
    assert findings.table.rows == [("a body", "22.0", "1.0", "36.0", "3.0")]
    assert "64 streams" in findings.notes[0]


def test_every_message_is_json_that_no_other_begins_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BRACES", 3)
    sent: dict[str, bytes] = {}

    def taken(server: RunningServer, *given: bytes) -> bytes:
        return given[-1]

    for way in ("by_websocket", "by_http", "as_steer"):
        monkeypatch.setattr(module, way, taken)
    sent = dict(large_bodies(SERVER))  # type: ignore[arg-type]  # the texts themselves, in place of what sends them
    assert len(sent) > 20
    for name, text in sent.items():
        assert json.loads(text), name
        assert module.encoded_hole() not in text, name


def test_a_number_stands_wherever_there_is_a_place_for_it() -> None:
    assert numbered(b"a %b b %b" % (NUMBER, NUMBER), 7) == b"a 00000007 b 00000007"
    assert json.loads(braces(3)) == [{}, {}, {}]
