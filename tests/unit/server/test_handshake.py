import pytest

from hotloop.errors import InvalidApiKey, RateLimited
from hotloop.server.handshake import (
    HandshakeError,
    accept_response,
    error_response,
    parse_upgrade,
    refusal_response,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def head(path: str = "/v1/responses", method: str = "GET", **headers: str) -> bytes:
    fields = {"sec-websocket-key": KEY, "sec-websocket-version": "13"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items() if value)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def test_the_answer_is_the_one_of_the_standard() -> None:
    answer = accept_response(parse_upgrade(head()), [(b"x-request-id", b"1")], deflate=False)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer  # RFC 6455 §1.3
    assert b"\r\nx-request-id: 1\r\n" in answer
    assert b"Extensions" not in answer
    assert answer.endswith(b"\r\n\r\n")


def test_the_path_is_decoded_and_parted_from_its_query() -> None:
    request = parse_upgrade(head("/v1/r%20x?a=b?c", authorization="Bearer k"))
    assert request.path == "/v1/r x"
    assert (b"authorization", b"Bearer k") in request.headers


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head(method="POST"), 405),
        (head(sec_websocket_version="8"), 426),
        (head(sec_websocket_version=""), 426),
        (head(sec_websocket_key=""), 400),
        (head(sec_websocket_key="dG9vIHNob3J0"), 400),
        (head(sec_websocket_key="***"), 400),
    ],
)
def test_what_is_no_upgrade_names_its_status(request_head: bytes, status: int) -> None:
    with pytest.raises(HandshakeError) as caught:
        parse_upgrade(request_head)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("offer", "bits"),
    [
        ("", 0),
        ("permessage-deflate", 15),
        ("permessage-deflate; client_max_window_bits", 15),  # what Codex and browsers offer
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", 15),
        ("permessage-deflate; client_max_window_bits=9; server_max_window_bits=10", 10),
        ('permessage-deflate; server_max_window_bits="9", permessage-deflate', 9),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15),
        ("permessage-deflate; server_max_window_bits=15", 15),
        ("permessage-deflate; server_max_window_bits=8", 0),
        ("permessage-deflate; server_max_window_bits", 0),
        ("permessage-deflate; server_max_window_bits=16", 0),
        ("permessage-deflate; client_max_window_bits=7", 0),
        ("permessage-deflate; server_no_context_takeover=1", 0),
        ("permessage-deflate; unknown", 0),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", 0),
        ("x-webkit-deflate-frame", 0),
    ],
)
def test_deflate_is_agreed_on_where_the_offer_allows_our_answer(offer: str, bits: int) -> None:
    request = parse_upgrade(head(sec_websocket_extensions=offer))
    assert request.deflate_bits == bits
    if bits:
        answer = accept_response(request, [], deflate=True)
        assert b"server_no_context_takeover; client_no_context_takeover" in answer
        accepted = offer.split(",")[-1] if "=8" in offer else offer.split(",")[0]
        assert (b"server_max_window_bits=%d" % bits in answer) is ("server_max_window_bits" in accepted)


def test_a_refusal_is_plain_http_with_the_ordinary_body() -> None:
    answer = error_response(InvalidApiKey("No."))
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"\r\nConnection: close\r\n" in answer
    assert b'"code":"invalid_api_key"' in answer
    assert b"Retry-After: 2\r\n" in error_response(RateLimited("Later.", retry_after_s=2))
    assert b"Sec-WebSocket-Version: 13\r\n" in refusal_response(426, b"{}")
