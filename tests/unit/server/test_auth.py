import pytest

from hotloop.errors import ApiError, Forbidden, InvalidApiKey
from hotloop.server.auth import AccessPolicy, authenticate, is_loopback
from hotloop.session.principal import LOCAL

OPEN, KEYED = AccessPolicy(), AccessPolicy("secret", frozenset(["https://app.example"]))


def headers(**given: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in given.items()]


@pytest.mark.parametrize(
    "given",
    [
        headers(authorization="Bearer secret"),
        headers(authorization="Bearer  secret "),
        headers(api_key="secret"),
        headers(authorization="Bearer secret", host="api.example.com"),
        headers(authorization="Bearer secret", origin="https://app.example"),
        headers(authorization="Bearer secret", origin="http://localhost:3000"),
    ],
)
def test_the_right_key_is_let_in_from_anywhere(given: list[tuple[bytes, bytes]]) -> None:
    assert authenticate(KEYED, given).tenant == LOCAL


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (headers(), InvalidApiKey),
        (headers(authorization="Bearer wrong"), InvalidApiKey),
        (headers(authorization="Basic secret"), InvalidApiKey),
        (headers(authorization="Bearer sécret"), InvalidApiKey),
        (headers(authorization="Bearer "), InvalidApiKey),
        (headers(authorization="Bearer secret", origin="https://evil.example"), Forbidden),
        (headers(authorization="Bearer secret", origin="null"), Forbidden),
        (headers(authorization="Bearer secret", origin="http://[::1"), Forbidden),
    ],
)
def test_a_wrong_key_or_a_foreign_page_is_kept_out(given: list[tuple[bytes, bytes]], kind: type[ApiError]) -> None:
    with pytest.raises(kind):
        authenticate(KEYED, given)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000", "[::1]"])
def test_without_a_key_loopback_names_are_answered(host: str) -> None:
    assert authenticate(OPEN, headers(host=host)).tenant == LOCAL
    assert authenticate(OPEN, headers(host=host, origin=f"http://{host}")).tenant == LOCAL


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::1", ""],
)
def test_without_a_key_no_other_name_is_answered_so_that_rebinding_fails(host: str) -> None:
    with pytest.raises(Forbidden):
        authenticate(OPEN, headers(host=host))
    with pytest.raises(Forbidden):
        authenticate(OPEN, headers(host="localhost", origin=f"http://{host}"))


def test_a_request_without_host_counts_as_local() -> None:
    assert authenticate(OPEN, []).key_id == ""


def test_the_principal_names_the_key_never_shows_it() -> None:
    assert "secret" not in repr(authenticate(KEYED, headers(authorization="Bearer secret")))


@pytest.mark.parametrize(
    ("host", "expected"), [("0.0.0.0", False), ("::", False), ("", False), ("::1", True), ("127.0.0.1", True)]
)
def test_only_addresses_that_stay_on_the_machine_are_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
