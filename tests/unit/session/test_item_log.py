from hotloop.protocol.items import Message
from hotloop.session.item_log import ItemLog


def message(text: str) -> Message:
    return Message(role="user", content=text)


A, B, C = message("a"), message("b"), message("c")


def test_an_empty_log_has_no_items() -> None:
    assert list(ItemLog()) == []
    assert len(ItemLog()) == 0


def test_items_come_oldest_first_and_newest_first() -> None:
    log = ItemLog([A]).extended([B, C])
    assert list(log) == [A, B, C]
    assert list(log.newest_first()) == [C, B, A]
    assert len(log) == 3


def test_a_log_is_not_changed_by_what_extends_it() -> None:
    base = ItemLog([A])
    assert list(base.extended([B])) == [A, B]
    assert list(base.extended([C])) == [A, C]
    assert list(base) == [A]


def test_extending_by_nothing_is_the_same_log() -> None:
    base = ItemLog([A])
    assert base.extended([]) is base


def test_a_list_given_can_be_changed_afterwards() -> None:
    given = [A]
    log = ItemLog(given)
    given.append(B)
    assert list(log) == [A]


def test_a_chain_of_a_hundred_thousand_turns_is_read_and_dropped_without_recursion() -> None:
    log = ItemLog()
    for _ in range(100_000):
        log = log.extended([A])
    assert sum(1 for _ in log) == 100_000
    del log


def test_the_last_items_come_oldest_first() -> None:
    log = ItemLog([message("a"), message("b")]).extended([message("c")])
    assert log.last(2) == [message("b"), message("c")]
    assert log.last(0) == []
    assert log.last(9) == list(log)
