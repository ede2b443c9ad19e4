import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hotloop.bench.frames import PONG, TEXT, FrameReader, handshake, masked_frame


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 600_001])
def test_a_frame_is_what_a_server_reads_back(size: int) -> None:
    payload = (b'{"type":"response.create"}' * (size // 26 + 1))[:size]
    server = ServerProtocol(state=OPEN, max_size=None)
    server.receive_data(masked_frame(payload))
    (frame,) = server.events_received()
    assert isinstance(frame, Frame)
    assert (frame.opcode, frame.fin, bytes(frame.data)) == (Opcode.TEXT, True, payload)


def test_the_bytes_on_the_wire_are_masked() -> None:
    frame = masked_frame(b"secret", PONG)
    assert frame[0] == 0x8A
    assert frame[1] == 0x80 | 6
    assert b"secret" not in frame


@given(st.lists(st.binary(max_size=70_000), max_size=4), st.integers(min_value=1, max_value=5_000))
def test_frames_come_back_whole_however_they_are_cut(payloads: list[bytes], cut: int) -> None:
    sent = b"".join(Frame(Opcode.TEXT, payload).serialize(mask=False) for payload in payloads)
    reader = FrameReader()
    received: list[tuple[int, bytes]] = []
    for start in range(0, len(sent), cut):
        received += reader.feed(sent[start : start + cut])
    assert received == [(TEXT, payload) for payload in payloads]


def test_the_handshake_is_one_that_servers_accept() -> None:
    server = ServerProtocol()
    server.receive_data(handshake("127.0.0.1", 8000, "/v1/responses", "key"))
    (request,) = server.events_received()
    assert server.accept(request).status_code == 101  # type: ignore[arg-type]  # the first event is the request
    assert "Bearer key" in str(request)
