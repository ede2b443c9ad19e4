"""The allow-list means what it says, and no more."""

import httpx
import pytest

from hotloop.remote.sources import Source, SourceProblem


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("example.org", "https://example.org/a?b"),
        ("Example.ORG", "https://EXAMPLE.org:443/"),
        ("example.org", "https://example.org./"),
        ("example.org:8443", "https://example.org:8443/"),
        ("http://example.org", "http://example.org/"),
        ("https://example.org/", "https://example.org/"),
        ("*.example.org", "https://a.b.example.org/"),
        ("*", "https://anything.at.all/"),
        ("[2606:4700::1111]", "https://[2606:4700::1111]/"),
    ],
)
def test_it_is_allowed(entry: str, url: str) -> None:
    assert Source.parse(entry).allows(httpx.URL(url))


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("example.org", "http://example.org/"),
        ("example.org", "https://example.org:8443/"),
        ("example.org", "https://a.example.org/"),
        ("example.org", "https://badexample.org/"),
        ("example.org", "https://example.org.evil.net/"),
        ("example.org", "https://evil.net/@example.org"),
        ("example.org", "https://example.org\\@evil.net/"),
        ("*.example.org", "https://example.org/"),
        ("*.example.org", "https://badexample.org/"),
        ("http://example.org", "https://example.org/"),
        ("*", "http://anything.at.all/"),
    ],
)
def test_it_is_not_allowed(entry: str, url: str) -> None:
    assert not Source.parse(entry).allows(httpx.URL(url))


@pytest.mark.parametrize(
    "entry", ["", "ftp://a.b", "https://", "a b", "a/b", "user@a.b", "a.b:0", "a.b:70000", "a.*.b", "https://a.b/path"]
)
def test_what_names_no_host_is_no_entry(entry: str) -> None:
    with pytest.raises(SourceProblem):
        Source.parse(entry)
