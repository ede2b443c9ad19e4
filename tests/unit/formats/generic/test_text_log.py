from hotloop.formats.generic.text_log import Place, TextLog

FIRST = TextLog(None, "one|two|", (Place(4, 2), Place(8, 4)), Place(8, 4))
SECOND = TextLog(FIRST, "three|", (Place(14, 7),), Place(14, 7))


def test_a_longer_text_proves_all_of_it() -> None:
    assert SECOND.proven("one|two|three|four") == (SECOND, Place(14, 7))


def test_another_text_is_proven_up_to_the_last_place_before_it_differs() -> None:
    assert SECOND.proven("one|two|thxxx|") == (FIRST, Place(8, 4))
    cut, place = SECOND.proven("one|txo|")
    assert place == Place(4, 2)
    assert cut is not None and cut.piece == "one|" and cut.places == (Place(4, 2),)


def test_nothing_in_common_is_the_start() -> None:
    assert SECOND.proven("xone|") == (None, Place())


def test_the_text_behind_a_place() -> None:
    assert SECOND.text_from(0) == "one|two|three|"
    assert SECOND.text_from(4) == "two|three|"
    assert SECOND.text_from(10) == "ree|"
    assert SECOND.text_from(14) == ""
