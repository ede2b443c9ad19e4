import asyncio
import threading
from typing import Any

import pytest
from tests.support.asgi_client import HttpExchange, Message

from hotloop.decoding.reader import MessageReader
from hotloop.server.auth import AccessPolicy
from hotloop.server.body import AsgiReceive, AsgiScope
from hotloop.server.connections import OpenConnections
from hotloop.server.door import Door
from hotloop.server.idempotency import Idempotency, IdempotencyLimits
from hotloop.server.sinks import AsgiSend
from hotloop.session.principal import Principal, Tenant


class _TenantDoor(Door):
    """Knows the tenant by a header."""

    def caller(self, scope: AsgiScope) -> Principal:
        headers = dict(scope["headers"])
        return Principal(Tenant(headers.get(b"x-tenant", b"me").decode()))


class Place:
    """Idempotency around an application that counts, and that waits between the two halves of its answer if told to."""

    def __init__(self, *, status: int = 200, door: type[Door] = _TenantDoor, **limits: Any) -> None:
        self.status = status
        self.bodies: list[bytes] = []
        self.now = 0.0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.began = asyncio.Event()
        self.left = asyncio.Event()
        self.fails = False
        self.idempotency = Idempotency(
            door(
                AccessPolicy("" if door is _TenantDoor else "sesame"),
                OpenConnections(),
                MessageReader(2**20),
                max_body_bytes=100,
            ),
            IdempotencyLimits(**limits),
            lambda: self.now,
        )

    async def app(self, scope: AsgiScope, receive: AsgiReceive, send: AsgiSend) -> None:
        body = (await receive())["body"]
        self.bodies.append(body)
        if self.fails:
            raise RuntimeError("broken on purpose")
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"%d:" % len(self.bodies), "more_body": True})
        self.began.set()
        going = asyncio.create_task(self.go_on.wait())
        leaving = asyncio.ensure_future(receive())
        done, pending = await asyncio.wait({going, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        if leaving in done:
            self.left.set()
            return
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def post(
        self, body: bytes = b"hi", key: str | None = "k", path: str = "/v1/responses", **headers: str
    ) -> HttpExchange:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            given["idempotency-key"] = key

        async def door(scope: Message, receive: Any, send: Any) -> None:
            await self.idempotency.serve(self.app, {**scope, "path": path}, receive, send)

        return HttpExchange(door, body, headers=given)


async def test_the_same_key_and_request_get_the_same_answer_and_it_is_marked() -> None:
    place = Place()
    first, again = await place.post().over(), await place.post().over()
    assert first.body == again.body == b"1:hi"
    assert b"idempotent-replayed" not in first.headers
    assert again.headers[b"idempotent-replayed"] == b"true"
    assert place.bodies == [b"hi"]


async def test_without_a_key_every_request_is_its_own() -> None:
    place = Place()
    assert [(await place.post(key=None).over()).body for _ in range(2)] == [b"1:hi", b"2:hi"]
    assert len(place.idempotency) == 0


@pytest.mark.parametrize(
    "other",
    [{"body": b"ho"}, {"path": "/v1/conversations"}, {"content_encoding": "gzip"}],
    ids=["body", "path", "encoding"],
)
async def test_another_request_with_the_key_is_refused(other: dict[str, Any]) -> None:
    place = Place()
    await place.post().over()
    refused = await place.post(**other).over()
    assert (refused.status, refused.json["error"]["code"]) == (409, "idempotency_key_reused")


async def test_a_long_body_is_hashed_in_a_thread_and_counts_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def noting(scope: AsgiScope, body: bytes) -> bytes:
        threads.append(threading.get_ident())
        return body

    monkeypatch.setattr("hotloop.server.idempotency.OFF_LOOP_BYTES", 10)
    monkeypatch.setattr("hotloop.server.idempotency._fingerprint", noting)
    place = Place()
    first, second = place.post(b"h" * 11), place.post(b"h" * 11)
    assert (await first.over()).body == (await second.over()).body == b"1:" + b"h" * 11
    assert (await place.post(b"i" * 11).over()).status == 409
    assert len(place.bodies) == 1
    assert len(threads) == 3 and threading.get_ident() not in threads


async def test_a_key_belongs_to_its_tenant() -> None:
    place = Place()
    assert (await place.post(x_tenant="me").over()).body == b"1:hi"
    assert (await place.post(x_tenant="you").over()).body == b"2:hi"


async def test_a_second_request_joins_the_first_while_it_runs_and_outlives_its_client() -> None:
    place = Place()
    place.go_on.clear()
    first = place.post()
    await asyncio.wait_for(place.began.wait(), 60)
    second = place.post()
    await asyncio.wait_for(second.began.wait(), 60)
    first.leave()
    await first.over()
    place.go_on.set()
    await second.over()
    assert second.body == b"1:hi"
    assert not place.left.is_set()


async def test_when_all_have_left_the_request_is_told_and_the_key_is_free() -> None:
    place = Place()
    place.go_on.clear()
    first = place.post()
    await asyncio.wait_for(place.began.wait(), 60)
    first.leave()
    await first.over()
    await asyncio.wait_for(place.left.wait(), 60)
    place.go_on.set()
    assert (await place.post().over()).body == b"2:hi"


@pytest.mark.parametrize("status", [400, 409, 429, 500, 503])
async def test_an_answer_that_is_no_success_is_not_kept(status: int) -> None:
    place = Place(status=status)
    assert (await place.post().over()).status == status
    assert (await place.post().over()).body == b"2:hi"


async def test_a_request_that_breaks_is_a_500_and_not_kept() -> None:
    place = Place()
    place.fails = True
    broken = await place.post().over()
    assert (broken.status, broken.json["error"]["code"]) == (500, "server_error")
    assert len(place.idempotency) == 0


async def test_what_is_old_is_forgotten() -> None:
    place = Place(max_age_s=60.0)
    await place.post().over()
    place.now = 61.0
    assert (await place.post().over()).body == b"2:hi"


async def test_too_many_push_out_the_oldest_but_never_one_that_runs() -> None:
    place = Place(entries=2)
    for key in "abc":
        await place.post(key=key).over()
    assert len(place.idempotency) == 2
    assert (await place.post(key="a").over()).body == b"4:hi"
    place = Place(entries=1)
    place.go_on.clear()
    running = place.post(key="a")
    await asyncio.wait_for(place.began.wait(), 60)
    refused = await place.post(key="b").over()
    assert (refused.status, refused.json["error"]["code"]) == (429, "rate_limit_exceeded")
    place.go_on.set()
    await running.over()


async def test_an_answer_too_large_to_keep_is_delivered_once_and_then_refused() -> None:
    place = Place(answer_bytes=600)
    assert (await place.post(b"x" * 90).over()).body == b"1:" + b"x" * 90
    again = await place.post(b"x" * 90).over()
    assert (again.status, again.json["error"]["code"]) == (409, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [("", b"hi", 400), ("k" * 256, b"hi", 400), ("k", b"x" * 101, 413)],
    ids=["none", "long", "body"],
)
async def test_a_key_or_body_that_cannot_be_is_refused(key: str, body: bytes, status: int) -> None:
    assert (await Place().post(body, key).over()).status == status


async def test_the_key_of_a_stranger_is_not_looked_up() -> None:
    place = Place(door=Door)
    assert (await place.post().over()).status == 401
    assert len(place.idempotency) == 0


async def test_closing_lets_go_of_what_runs() -> None:
    place = Place()
    place.go_on.clear()
    first = place.post()
    await asyncio.wait_for(place.began.wait(), 60)
    await asyncio.wait_for(place.idempotency.close(), 60)
    assert place.left.is_set()
    await first.over()
