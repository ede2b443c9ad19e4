"""Files and pictures in requests: text is read, whatever else is refused by name; URLs are fetched where that is configured."""

import asyncio
import base64
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from tests.support.doors import TRANSPORTS, Ask, Json, door
from tests.support.live_server import LiveServer, open_socket
from tests.support.remote_host import PUBLIC, Behaviour, RemoteHost, answer, endless, redirect, remote_host, silent
from tests.support.scripted_model import scripted_model

from hotloop import app
from hotloop.config import ServerSettings
from hotloop.models.token_model import TokenModel
from hotloop.protocol import file_parts
from hotloop.remote import HttpContent, Source

SCRIPT: list[Json] = [
    {"match": "^hello", "turns": [{"text": "hello"}]},
    {"match": "^read", "turns": [{"text": "read", "requires_history": "[notes.txt]\nplum"}]},
]
READ: Json = {"role": "user", "content": "read"}
HELLO: Json = {"role": "user", "content": "hello"}


def data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def message(**part: Any) -> Json:
    return {"role": "user", "content": [{"type": "input_file", "filename": "notes.txt", **part}]}


def output(**part: Any) -> list[Json]:
    call: Json = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    parts = [{"type": "input_file", "filename": "notes.txt", **part}]
    return [HELLO, call, {"type": "function_call_output", "call_id": "c", "output": parts}]


TEXTS = [
    data("text/plain", b"plum"),
    data("text/plain;charset=utf-8", b"plum"),
    data("TEXT/x-python", b"plum"),
    data("application/json", b"plum"),
    data("application/vnd.api+json", b"plum"),
    data("application/octet-stream", b"plum"),
    data("", b"plum"),
    "data:text/plain,pl%75m",
    base64.b64encode(b"plum").decode(),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_text_file_is_read_wherever_it_stands(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT), checks_requests=False) as (_, ask):
        for text in TEXTS:
            for given in ([message(file_data=text)], output(file_data=text)):
                response = await ask(input=[*given, READ])
                assert response["output"][0]["content"][0]["text"] == "read", text


async def test_a_long_file_is_read_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    loop_thread, readers = threading.get_ident(), set[int]()
    read = file_parts._content

    def noticed(file_data: str, param: str) -> tuple[str, bytes]:
        readers.add(threading.get_ident())
        return read(file_data, param)

    model = scripted_model(SCRIPT, context_tokens=10_000_000)
    async with door("http", model, checks_requests=False) as (_, ask):
        monkeypatch.setattr(file_parts, "_content", noticed)
        response = await ask(input=[message(file_data=data("text/plain", b"plum " * 100_000)), HELLO])
        assert response["status"] == "completed"
        refused = await ask(input=[message(file_data=data("text/plain", b"\xff" * 500_000)), HELLO])
        assert refused["error"]["param"] == "input[0].content[0].file_data"
    assert readers and loop_thread not in readers


UNREADABLE: list[tuple[Json, str, str]] = [
    ({"file_data": data("application/pdf", b"%PDF-1.7")}, "unsupported_value", ".file_data"),
    ({"file_data": data("image/png", b"\x89PNG")}, "unsupported_value", ".file_data"),
    ({"file_data": data("", b"%PDF-1.7")}, "unsupported_value", ".file_data"),
    ({"file_data": data("text/plain", b"\xff\xfe")}, "unsupported_value", ".file_data"),
    ({"file_data": data("application/octet-stream", b"a\0b")}, "unsupported_value", ".file_data"),
    ({"file_data": "data:text/plain;base64,???"}, "invalid_value", ".file_data"),
    ({"file_data": "data:text/plain"}, "invalid_value", ".file_data"),
    ({"file_id": "file_1"}, "unsupported_value", ".file_id"),
    ({"file_url": "https://a.example/notes.txt"}, "remote_url_not_allowed", ".file_url"),  # not configured
    ({}, "missing_required_parameter", ".file_data"),
    ({"type": "input_image", "image_url": data("image/png", b"\x89PNG")}, "unsupported_value", ""),
    ({"type": "input_image", "image_url": "https://a.example/a.png"}, "unsupported_value", ""),
    ({"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}}, "unsupported_value", ""),
    ({"type": "input_video", "video_url": "https://a.example/a.mp4"}, "unsupported_value", ""),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_whatever_else_is_refused_by_name_and_the_chain_goes_on(transport: str) -> None:
    async with door(transport, scripted_model(SCRIPT), checks_requests=False) as (_, ask):
        first = await ask(input=[HELLO])
        for part, code, field in UNREADABLE:
            refused = await ask(input=[HELLO, message(**part)], previous_response_id=first["id"])
            assert refused["error"]["code"] == code, (part, refused)
            assert refused["error"]["param"] == f"input[1].content[0]{field}", part
            first = await ask(input=[HELLO])  # a refused continuation takes its parent along
            assert first["status"] == "completed"


@asynccontextmanager
async def fetching(
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
    behaviours: dict[str, Behaviour],
    *,
    model: TokenModel | None = None,
    **settings: Any,
) -> AsyncGenerator[tuple[LiveServer, Ask, RemoteHost]]:
    """A server that may fetch from a.example, which is a host of the test."""
    async with remote_host(behaviours) as host:
        monkeypatch.setattr(app, "HttpContent", partial(HttpContent, resolver=host.resolve, backend=host))
        configured = ServerSettings(remote_sources=(Source.parse("http://a.example"),), **settings)
        async with door(transport, model or scripted_model(SCRIPT), configured, checks_requests=False) as (server, ask):
            yield server, ask, host


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_what_a_url_names_is_read_and_fetched_once(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://a.example/folder/notes.txt?version=1"
    async with fetching(monkeypatch, transport, {"/folder/notes.txt": answer(b"plum")}) as (server, ask, host):
        part = {"type": "input_file", "file_url": url}
        given: list[Json] = [{"role": "user", "content": [part]}, READ]
        first = await ask(input=given)
        assert first["output"][0]["content"][0]["text"] == "read"
        async with httpx.AsyncClient(base_url=server.url) as client:
            listed = (await client.get(f"/responses/{first['id']}/input_items", params={"order": "asc"})).json()
        assert listed["data"][0]["content"] == [
            {**part, "filename": "notes.txt", "file_data": data("text/plain", b"plum")}
        ]
        continued = await ask(input=[READ], previous_response_id=first["id"])
        assert continued["output"][0]["content"][0]["text"] == "read"
        resent = await ask(input=[*given, *first["output"], READ])  # known by the URL, as far as it was seen before
        assert resent["output"][0]["content"][0]["text"] == "read"
        assert (len(host.connected), host.connected[0]) == (1, (PUBLIC, 80))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_failed_fetch_is_one_clear_error(transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    behaviours: dict[str, Behaviour] = {
        "/endless": endless,
        "/inside": redirect("http://127.0.0.1/"),
        "/pdf": answer(b"%PDF-", kind="application/pdf"),
        "/latin": answer(b"\xff"),
        "/none": answer(b"", status="404 Not Found"),
        "/silent": silent,
    }
    codes = {
        "/endless": "remote_content_too_large",
        "/inside": "remote_url_not_allowed",
        "/pdf": "unsupported_value",
        "/latin": "unsupported_value",
        "/none": "remote_fetch_failed",
        "/silent": "remote_fetch_timeout",
    }
    async with fetching(monkeypatch, transport, behaviours, remote_max_bytes=10_000, remote_timeout_s=0.3) as (
        _,
        ask,
        _host,
    ):
        for path, code in codes.items():
            refused = await ask(input=[HELLO, message(file_url=f"http://a.example{path}")])
            assert refused["error"]["code"] == code, path
            assert refused["error"]["param"].startswith("input[1].content[0].file_"), path
        many = [message(file_url=f"http://a.example/{number}") for number in range(17)]
        refused = await ask(input=many)
        assert refused["error"]["param"] == "input[16].content[0].file_url"


async def test_a_fetch_that_hangs_holds_up_nobody_else_and_ends_with_its_client(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = asyncio.Event()

    async def hang(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await silent(writer)

    async with fetching(monkeypatch, "http", {"/hang": hang}, remote_timeout_s=60.0) as (server, ask, host):
        async with open_socket(server) as socket:
            await socket.send(input=[message(file_url="http://a.example/hang")], stream_id="hanging")
            await asyncio.wait_for(asked.wait(), 60)
            assert (await ask(input=[HELLO]))["status"] == "completed"  # another client
            await socket.send(input=[HELLO], stream_id="other")  # another lane
            events = await socket.until_terminal()
            assert events[-1]["type"] == "response.completed" and events[-1]["stream_id"] == "other"
        await asyncio.wait_for(host.left.wait(), 60)


async def test_nothing_of_what_was_fetched_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG"):
        behaviours = {"/secret-name": answer(b"secret-content"), "/bad": answer(b"\xffsecret-content")}
        async with fetching(monkeypatch, "http", behaviours) as (_, ask, _host):
            await ask(input=[message(file_url="http://a.example/secret-name"), HELLO])
            await ask(input=[message(file_url="http://a.example/bad"), HELLO])
    assert "secret" not in caplog.text


class Seeing(TokenModel):
    """Stands in for a model that takes images, of which there is none here: what reaches it is what is looked at."""

    @property
    def takes_images(self) -> bool:
        return True


async def test_an_image_is_fetched_for_a_model_that_takes_images(monkeypatch: pytest.MonkeyPatch) -> None:
    text = scripted_model(SCRIPT)
    model = Seeing("test", format=text.format, tokenizer=text.tokenizer, engine=text.engine)
    picture = answer(b"\x89PNG", kind="image/png")
    async with fetching(monkeypatch, "http", {"/a.png": picture, "/a.svg": answer(b"", kind="image/svg+xml")}, model=model) as (
        _,
        ask,
        host,
    ):  # fmt: skip
        for path, code in (("/a.png", "unsupported_value"), ("/a.svg", "unsupported_value")):
            part = {"type": "input_image", "image_url": f"http://a.example{path}"}
            refused = await ask(input=[{"role": "user", "content": [part]}])
            assert refused["error"]["code"] == code  # the PNG by the format, to which it came
        assert len(host.connected) == 2
