"""Which URLs a request may name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.tool_servers.urls import AllowedUrl, UrlProblem

ENTRY = "https://tools.example.com/mcp"


@pytest.mark.parametrize(
    "url",
    [
        ENTRY,
        f"{ENTRY}/",
        f"{ENTRY}/team",
        f"{ENTRY}?key=1",
        "https://tools.example.com:443/mcp",
        "https://TOOLS.example.com/mcp",
    ],
)
def test_an_entry_allows_its_origin_at_and_under_its_path(url: str) -> None:
    assert AllowedUrl.parse(ENTRY).allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://tools.example.com/mcp",
        "https://tools.example.com/mcpx",
        "https://tools.example.com/",
        "https://tools.example.com:8443/mcp",
        "https://tools.example.com.evil.example/mcp",
        "https://evil.example/tools.example.com/mcp",
    ],
)
def test_an_entry_allows_nothing_else(url: str) -> None:
    assert not AllowedUrl.parse(ENTRY).allows(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tools.example.com/mcp",
        "file:///etc/passwd",
        "https://user:pass@tools.example.com/mcp",
        "https://tools.example.com@evil.example/mcp",
        "https://tools.example.com/mcp/../admin",
        "https://tools.example.com/mcp/%2e%2e/admin",
        "https://tools.example.com/mcp/..%2fadmin",
        "https://tools.example.com/mcp//evil.example",
        "https://tools.example.com\\@evil.example/mcp",
        "https://tools.example.com/mcp#part",
        "https://tools.example.com:port/mcp",
        "https://[::1/mcp",
        "https://tools.example.com/m\ncp",
        "https://tööls.example.com/mcp",
    ],
)
def test_what_can_be_read_in_two_ways_is_no_url(url: str) -> None:
    with pytest.raises(UrlProblem):
        AllowedUrl.parse(ENTRY).allows(url)


def test_plain_http_is_allowed_by_an_entry_that_says_so() -> None:
    assert AllowedUrl.parse("http://127.0.0.1:9000").allows("http://127.0.0.1:9000/mcp")
    assert not AllowedUrl.parse("http://127.0.0.1:9000").allows("http://127.0.0.1:9001/mcp")


def test_an_entry_has_no_query() -> None:
    with pytest.raises(UrlProblem):
        AllowedUrl.parse("https://tools.example.com/mcp?key=1")


@given(st.text(max_size=40))
def test_no_text_behind_the_host_leads_elsewhere(rest: str) -> None:
    """Whatever stands behind the allowed prefix, what is allowed has the allowed host."""
    entry = AllowedUrl.parse("https://tools.example.com")
    try:
        is_allowed = entry.allows(f"https://tools.example.com{rest}")
    except UrlProblem:
        return
    assert not is_allowed or rest[:1] in ("", "/", "?", ":")
