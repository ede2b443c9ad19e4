import re
from collections.abc import Iterator

import pytest

from hotloop import errors
from hotloop.errors import ApiError, ConnectionLimitReached, MissingParameter, PreviousResponseNotFound, RateLimited


def leaves(kind: type[ApiError] = ApiError) -> Iterator[type[ApiError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from leaves(child)


def test_every_error_stands_in_the_tree_at_the_top_of_its_file() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == {kind.__name__ for kind in leaves() if kind is not ApiError}


@pytest.mark.parametrize("kind", [kind for kind in leaves() if kind is not ApiError])
def test_the_tree_shows_the_code_that_is_sent(kind: type[ApiError]) -> None:
    line = next(line for line in (errors.__doc__ or "").splitlines() if re.search(rf"── {kind.__name__}\b", line))
    assert line.split()[-1] == kind.code


@pytest.mark.parametrize("kind", list(leaves()))
def test_every_error_has_a_status_above_399_and_a_code_for_programs(kind: type[ApiError]) -> None:
    assert 400 <= kind.status < 600
    assert re.fullmatch(r"[a-z_]+", kind.code)
    assert re.fullmatch(r"[a-z_]+", kind.type)


def test_a_message_names_what_was_missing() -> None:
    error = MissingParameter("model")
    assert (error.param, error.message) == ("model", "Missing required parameter: 'model'.")


def test_an_unknown_parent_is_named_in_the_words_clients_know() -> None:
    error = PreviousResponseNotFound("resp_abc")
    assert error.message == "Previous response with id 'resp_abc' not found."
    assert error.param == "previous_response_id"


def test_the_connection_limit_tells_its_minutes() -> None:
    assert "(60 minutes)" in ConnectionLimitReached(3600.0).message
    assert "(0.5 minutes)" in ConnectionLimitReached(30.0).message


def test_an_error_can_say_when_to_come_back() -> None:
    assert RateLimited("slow down", retry_after_s=1.5).retry_after_s == 1.5
