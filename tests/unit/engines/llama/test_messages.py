from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.engines.llama import messages
from hotloop.engines.llama.messages import (
    Close,
    Ended,
    FrameReader,
    FromHost,
    Generate,
    KvHeld,
    Open,
    Ready,
    Step,
    ToHost,
    Unusable,
    frame,
    from_host_decoder,
    to_host_decoder,
)
from hotloop.seams.engine import Constraint, EndReason, Sampling, TokenLogprob, Usage

IDS = array("I", [1, 2**31 - 1, 0]).tobytes()
SAMPLING = Sampling(max_tokens=5, seed=3, stop_tokens=frozenset({7, 9}), top_logprobs=2)
TO_HOST: list[ToHost] = [
    Open(1, "local", IDS),
    Generate(1, 2, 3, IDS, SAMPLING, Constraint("start: x", trigger=4, once=True)),
    Generate(1, 2, 3, b"", SAMPLING, None),
    Close(1),
]
FROM_HOST: list[FromHost] = [
    Ready(4096, 32768, 64, 1, can_rewind=True),
    Unusable("no such file", "x.gguf"),
    Step(IDS, IDS, [TokenLogprob(1, -0.5, ((1, -0.5),)), None], [Ended(2, EndReason.STOP, Usage(1, 2, 3), "")], 9),
    Step(ended=[]),
    Step(ended=[], held=KvHeld(5, 1 << 40, 3)),
]


def bodies(stream: bytes, cut: int) -> list[bytes]:
    reader = FrameReader()
    return [body for start in range(0, len(stream), cut) for body in reader.feed(stream[start : start + cut])]


@given(cut=st.integers(1, 300))
def test_every_message_arrives_as_it_was_sent_however_the_stream_is_cut(cut: int) -> None:
    to_host = b"".join(frame(message) for message in TO_HOST)
    assert [to_host_decoder.decode(body) for body in bodies(to_host, cut)] == TO_HOST
    from_host = b"".join(frame(message) for message in FROM_HOST)
    assert [from_host_decoder.decode(body) for body in bodies(from_host, cut)] == FROM_HOST


def test_a_frame_over_the_limit_is_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    large = frame(Open(1, "local", bytes(100)))
    monkeypatch.setattr(messages, "MAX_FRAME_BYTES", 50)
    with pytest.raises(ValueError, match="at most 50"):
        frame(Open(1, "local", bytes(100)))
    with pytest.raises(ValueError, match="at most 50"):
        FrameReader().feed(large)
