"""The item log against plain lists."""

from hypothesis import given
from hypothesis import strategies as st

from hotloop.protocol.items import Message
from hotloop.session.item_log import ItemLog


@given(st.lists(st.tuples(st.integers(0, 1000), st.lists(st.text(max_size=3), max_size=3)), max_size=40))
def test_every_log_ever_taken_stays_the_list_it_was(steps: list[tuple[int, list[str]]]) -> None:
    logs: list[tuple[ItemLog, list[Message]]] = [(ItemLog(), [])]
    for choice, texts in steps:
        log, expected = logs[choice % len(logs)]
        new = [Message(role="user", content=text) for text in texts]
        logs.append((log.extended(new), expected + new))
    for log, expected in logs:
        assert list(log) == expected
        assert list(log.newest_first()) == expected[::-1]
        assert len(log) == len(expected)
