import pytest

from hotloop.client.journal import NOT_RUN, OUTCOME_UNKNOWN, Call, Journal

CALL = Call("function_call", "call_1", "shell", "{}")


def test_a_call_begins_once() -> None:
    journal = Journal()
    assert journal.begin(CALL)
    assert not journal.begin(CALL)
    journal.finish(CALL, "")
    assert not journal.begin(CALL)


def test_the_model_is_told_what_became_of_a_call() -> None:
    journal = Journal()
    assert journal.output(CALL) == NOT_RUN
    journal.begin(CALL)
    assert journal.output(CALL) == OUTCOME_UNKNOWN
    journal.finish(CALL, "")
    assert journal.output(CALL) == ""


def test_an_id_used_again_for_something_else_is_another_call() -> None:
    journal = Journal()
    journal.begin(CALL)
    assert journal.begin(Call("function_call", "call_1", "shell", '{"command":"ls"}'))


def test_a_call_cannot_finish_before_it_began() -> None:
    with pytest.raises(AssertionError):
        Journal().finish(CALL, "x")
