"""Fetching, against hosts that mean no good. Real HTTP over real sockets; only the addresses are made up."""

import asyncio
import ssl
import threading
from pathlib import Path

import pytest
from tests.support.certificates import self_signed
from tests.support.remote_host import (
    PUBLIC,
    Behaviour,
    RemoteHost,
    answer,
    broken_off,
    endless,
    huge_header,
    redirect,
    remote_host,
    silent,
    stalled,
)

from hotloop.errors import ApiError
from hotloop.protocol.file_parts import is_text_type
from hotloop.remote import FetchLimits, HttpContent, Source
from hotloop.remote.fetcher import MAX_REDIRECTS, MAX_URL_CHARS, SystemResolver
from hotloop.seams.remote import Fetched

QUICK = FetchLimits(max_bytes=10_000, total_s=0.2)


async def fetch(
    host: RemoteHost, url: str, *, limits: FetchLimits | None = None, sources: str = "http://a.example"
) -> Fetched:
    content = HttpContent(
        [Source.parse(source) for source in sources.split()],
        limits or FetchLimits(max_bytes=10_000),
        resolver=host.resolve,
        backend=host,
    )
    return await content.fetch(url, is_text_type, param="input[0]")


async def refusal(host: RemoteHost, url: str, **options: object) -> str:
    with pytest.raises(ApiError) as caught:
        await fetch(host, url, **options)  # type: ignore[arg-type]  # as `fetch` has them
    assert (caught.value.status, caught.value.param) == (400, "input[0]")
    assert (
        "127.0.0.1" not in caught.value.message and "10.0.0" not in caught.value.message
    )  # tells nothing of this network
    return caught.value.code


async def test_it_gets_what_is_there_and_asks_for_it_plainly() -> None:
    async with remote_host({"/a": answer(b"plum", kind="Text/Plain; charset=utf-8")}) as host:
        assert await fetch(host, "http://a.example/a?b=1#c") == Fetched("text/plain", b"plum")
        (request,) = host.requests
        line, *headers = request.strip().split("\r\n")
        assert line == "GET /a?b=1 HTTP/1.1"
        assert {header.partition(":")[0].lower() for header in headers} == {"host", "accept-encoding", "user-agent"}
        assert host.connected == [(PUBLIC, 80)]


async def test_no_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with remote_host({"/": answer(b"plum")}) as host:
        assert (await fetch(host, "http://a.example/")).data == b"plum"


@pytest.mark.parametrize(
    "url",
    [
        "http://b.example/",
        "https://a.example/",
        "http://a.example:81/",
        "http://user:secret@a.example/",
        "http://user@a.example/",
        "http://a.example\\@b.example/",
        "ftp://a.example/",
        "file:///etc/passwd",
        "//a.example/",
        "a.example",
        "",
        "http://",
        "http://[::1",
        "http://a.example/" + "x" * MAX_URL_CHARS,
        "http://127.0.0.1/",
        "http://a.example/\r\nX: y",
    ],
)
async def test_a_url_that_is_not_meant_is_not_even_looked_up(url: str) -> None:
    async with remote_host({"/": answer(b"plum")}) as host:
        assert await refusal(host, url) == "remote_url_not_allowed"
        assert (host.resolved, host.connected) == ([], [])


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["::ffff:10.0.0.1"], ["64:ff9b::a00:1"], ["fe80::1%eth0"]]
)
async def test_a_name_that_leads_inside_is_not_connected_to(addresses: list[str]) -> None:
    async with remote_host({"/": answer(b"plum")}, [addresses]) as host:
        assert await refusal(host, "http://a.example/") == "remote_url_not_allowed"
        assert host.connected == []


@pytest.mark.parametrize("name", ["localhost", "127.1", "2130706433", "0x7f.0.0.1", "[::1]", "[::ffff:7f00:1]"])
async def test_loopback_by_any_name_is_refused_with_the_real_resolver(name: str) -> None:
    content = HttpContent([Source("http", "*", 80)])
    with pytest.raises(ApiError) as caught:
        await content.fetch(f"http://{name}/", is_text_type, param="input[0]")
    assert caught.value.code in ("remote_url_not_allowed", "remote_fetch_failed")  # some resolvers know no such name


async def test_the_resolver_gives_each_address_once() -> None:
    assert list(await SystemResolver()("127.0.0.1", 80)) == ["127.0.0.1"]


async def test_a_name_server_that_hangs_holds_up_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(*_: object, **__: object) -> list[object]:
        over.wait()
        raise OSError("no such name")

    monkeypatch.setattr("hotloop.remote.fetcher.socket.getaddrinfo", hang)
    content = HttpContent([Source("http", "*", 80)], FetchLimits(total_s=0.2, at_once=64))
    try:
        fetches = [content.fetch(f"http://a{number}.example/", is_text_type, param="input[0]") for number in range(64)]
        failures = await asyncio.gather(*fetches, return_exceptions=True)
        assert {getattr(failure, "code", "") for failure in failures} == {"remote_fetch_timeout"}
        assert await asyncio.wait_for(asyncio.to_thread(lambda: "done"), 60) == "done"
    finally:
        over.set()


async def test_a_name_that_changes_its_mind_is_asked_once() -> None:
    async with remote_host({"/": answer(b"plum")}, [[PUBLIC], ["127.0.0.1"]]) as host:
        assert (await fetch(host, "http://a.example/")).data == b"plum"
        assert (host.resolved, host.connected) == (["a.example"], [(PUBLIC, 80)])


async def test_each_hop_is_looked_up_and_judged_anew() -> None:
    behaviours: dict[str, Behaviour] = {"/": redirect("http://b.example/there"), "/there": answer(b"plum")}
    sources = "http://a.example http://b.example"
    async with remote_host(behaviours) as host:
        assert (await fetch(host, "http://a.example/", sources=sources)).data == b"plum"
        assert host.resolved == ["a.example", "b.example"]
    async with remote_host(behaviours, [[PUBLIC], ["10.0.0.1"]]) as host:
        assert await refusal(host, "http://a.example/", sources=sources) == "remote_url_not_allowed"
        assert len(host.connected) == 1


@pytest.mark.parametrize(
    "target",
    ["http://127.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://b.example/", "file:///etc/passwd", "//b.example/",
     "http://user@a.example/", "http://[::1"],
)  # fmt: skip
async def test_no_redirect_leads_elsewhere(target: str) -> None:
    async with remote_host({"/": redirect(target)}) as host:
        assert await refusal(host, "http://a.example/") in ("remote_url_not_allowed", "remote_fetch_failed")
        assert len(host.connected) == 1


async def test_redirects_come_to_an_end() -> None:
    async with remote_host({"/": redirect("/")}) as host:
        assert await refusal(host, "http://a.example/") == "remote_fetch_failed"
        assert len(host.connected) == MAX_REDIRECTS + 1


FAILING: list[tuple[Behaviour, str]] = [
    (endless, "remote_content_too_large"),
    (answer(b"x" * 10_001), "remote_content_too_large"),
    (stalled, "remote_fetch_timeout"),
    (silent, "remote_fetch_timeout"),
    (huge_header, "remote_fetch_failed"),
    (broken_off, "remote_fetch_failed"),
    (answer(b"", status="404 Not Found"), "remote_fetch_failed"),
    (answer(b"", status="302 Found"), "remote_fetch_failed"),  # to nowhere
    (answer(b"\x1f\x8b", "Content-Encoding: gzip"), "remote_fetch_failed"),
    (answer(b"%PDF-", kind="application/pdf"), "unsupported_value"),
    (answer(b"<html>", kind=""), "unsupported_value"),
]


@pytest.mark.parametrize(("behaviour", "code"), FAILING)
async def test_each_failure_has_its_code(behaviour: Behaviour, code: str) -> None:
    async with remote_host({"/": behaviour}) as host:
        limits = QUICK if code == "remote_fetch_timeout" else None
        assert await refusal(host, "http://a.example/", limits=limits) == code


async def test_a_host_that_is_not_there() -> None:
    async with remote_host({}, [[]]) as host:
        assert await refusal(host, "http://a.example/") == "remote_fetch_failed"
    async with remote_host({}) as gone:
        pass
    assert await refusal(gone, "http://a.example/") == "remote_fetch_failed"


async def test_the_wait_for_a_place_counts() -> None:
    async with remote_host({"/": silent}) as host:
        content = HttpContent(
            [Source("http", "a.example", 80)],
            FetchLimits(total_s=0.2, at_once=1),
            resolver=host.resolve,
            backend=host,
        )
        await content._places.acquire()
        with pytest.raises(ApiError) as caught:
            await content.fetch("http://a.example/", is_text_type, param="input[0]")
        assert caught.value.code == "remote_fetch_timeout" and host.connected == []


def certified(name: str, folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's TLS for `name`, and a client's that trusts it alone."""
    file = self_signed(name, folder)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(file)
    return served, ssl.create_default_context(cafile=file)


async def test_https_checks_the_certificate_against_the_name_though_it_connects_to_an_address(tmp_path: Path) -> None:
    served, trusting = certified("a.example", tmp_path)
    async with remote_host({"/": answer(b"plum")}, tls=served) as host:
        content = HttpContent(
            [Source("https", "*", 443)], FetchLimits(), resolver=host.resolve, backend=host, tls=trusting
        )
        assert (await content.fetch("https://a.example/", is_text_type, param="input[0]")).data == b"plum"
        with pytest.raises(ApiError) as caught:
            await content.fetch("https://b.example/", is_text_type, param="input[0]")
        assert caught.value.code == "remote_fetch_failed"
        assert {address for address, _ in host.connected} == {PUBLIC}


async def test_no_redirect_leads_from_https_to_http(tmp_path: Path) -> None:
    served, trusting = certified("a.example", tmp_path)
    async with remote_host({"/": redirect("http://a.example/")}, tls=served) as host:
        sources = [Source("https", "a.example", 443), Source("http", "a.example", 80)]
        content = HttpContent(sources, FetchLimits(), resolver=host.resolve, backend=host, tls=trusting)
        with pytest.raises(ApiError) as caught:
            await content.fetch("https://a.example/", is_text_type, param="input[0]")
        assert caught.value.code == "remote_url_not_allowed" and len(host.connected) == 1
