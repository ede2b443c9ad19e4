"""Background responses over HTTP, through the openai-python client: queued, polled, streamed, resumed, cancelled."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response
from tests.support.event_order import check_response_events
from tests.support.live_server import PATIENCE_S, LiveServer, live_server
from tests.support.recorded_traffic import sse_events
from tests.support.scripted_model import scripted_model

from hotloop.config import ServerSettings


@asynccontextmanager
async def served(**settings: Any) -> AsyncGenerator[tuple[LiveServer, AsyncOpenAI]]:
    async with (
        live_server(scripted_model(), ServerSettings(port=0, **settings)) as server,
        AsyncOpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        yield server, client


async def begin(client: AsyncOpenAI, text: str, **fields: Any) -> Response:
    make: Any = client.responses.create
    made: Response = await make(model="test", input=text, background=True, **fields)
    return made


async def streamed(server: LiveServer, path: str) -> list[dict[str, Any]]:
    """Events of a stored stream, to its end."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    return sse_events(answer.text)


def runs(server: LiveServer) -> Any:
    return server.app.services.models["test"].engine.runs  # type: ignore[attr-defined]  # the scripted one


async def wait_idle(server: LiveServer) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await server.app.connections.wait_empty()


async def test_it_is_queued_at_once_and_can_be_read_until_it_is_completed_and_continued() -> None:
    async with served() as (server, client):
        begun = await begin(client, "hello, the magic word is plum")
        assert (begun.status, begun.background, begun.output, begun.usage) == ("queued", True, [], None)
        (asked,) = (await client.responses.input_items.list(begun.id)).data
        assert asked.id
        await wait_idle(server)
        done = await client.responses.retrieve(begun.id)
        assert (done.status, done.id, done.background) == ("completed", begun.id, True)
        assert done.output_text.startswith("Hello yourself")
        next_one = await client.responses.create(model="test", input="remember", previous_response_id=begun.id)
        assert next_one.output_text == "I do."


async def test_while_it_runs_it_is_in_progress_and_no_parent() -> None:
    async with served() as (_, client):
        begun = await begin(client, "forever")
        assert (await client.responses.retrieve(begun.id)).status in ("queued", "in_progress")
        with pytest.raises(openai.BadRequestError) as caught:
            await client.responses.create(model="test", input="hello", previous_response_id=begun.id)
        assert caught.value.code == "previous_response_not_found"


async def test_cancelling_frees_the_engine_and_can_be_repeated() -> None:
    async with served() as (server, client):
        begun = await begin(client, "forever")
        cancelled = await client.responses.cancel(begun.id)
        assert (cancelled.status, cancelled.incomplete_details, cancelled.error) == ("cancelled", None, None)
        assert not runs(server)
        assert await client.responses.cancel(begun.id) == cancelled
        assert await client.responses.retrieve(begun.id) == cancelled
        await wait_idle(server)


async def test_cancelling_what_is_completed_gives_it_as_it_is() -> None:
    async with served() as (server, client):
        begun = await begin(client, "hello")
        await wait_idle(server)
        assert (await client.responses.cancel(begun.id)).status == "completed"


async def test_it_survives_the_client_that_streamed_it_and_its_stream_can_be_taken_up_again() -> None:
    async with served() as (server, client):
        stream: Any = await client.responses.create(model="test", input="long", background=True, stream=True)
        seen: list[Any] = []
        async for event in stream:
            seen.append(event)
            if len(seen) == 10:
                break
        await stream.close()
        response_id, last = seen[0].response.id, seen[-1].sequence_number
        resumed = await client.responses.retrieve(response_id, stream=True, starting_after=last)
        rest = [event async for event in resumed]
        numbers = [event.sequence_number for event in [*seen, *rest]]
        assert numbers == list(range(len(numbers)))
        assert rest[-1].type == "response.completed"
        await wait_idle(server)
        whole = await streamed(server, f"/responses/{response_id}?stream=true")
        final = check_response_events(whole)
        assert [event["type"] for event in whole[:3]] == [
            "response.created",
            "response.queued",
            "response.in_progress",
        ]
        stored = await client.responses.retrieve(response_id)
        assert stored.to_dict()["output"] == final["output"]


async def test_a_follower_gets_the_live_tail_and_the_end_of_a_cancelled_response() -> None:
    async with served() as (server, client):
        begun = await begin(client, "forever")
        following = asyncio.create_task(streamed(server, f"/responses/{begun.id}?stream=true&starting_after=0"))
        await client.responses.cancel(begun.id)
        events = await asyncio.wait_for(following, PATIENCE_S)
        assert [event["sequence_number"] for event in events] == list(range(1, len(events) + 1))


async def test_more_than_the_bound_are_refused_and_a_waiting_one_can_be_cancelled_or_gets_its_place() -> None:
    async with served(background_running=1, background_waiting=2) as (server, client):
        first = await begin(client, "forever")
        second, third = await begin(client, "hello"), await begin(client, "hello")
        with pytest.raises(openai.RateLimitError) as caught:
            await begin(client, "hello")
        assert caught.value.response.headers["retry-after"] == "1"
        assert (await client.responses.retrieve(second.id)).status == "queued"
        assert (await client.responses.cancel(second.id)).status == "cancelled"
        await client.responses.cancel(first.id)
        await wait_idle(server)
        assert (await client.responses.retrieve(third.id)).status == "completed"
        assert len(runs(server)) == 0


async def test_a_deleted_one_stops_and_is_gone() -> None:
    async with served() as (server, client):
        begun = await begin(client, "forever")
        await client.responses.delete(begun.id)
        assert not runs(server)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(begun.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.cancel(begun.id)


async def test_what_is_refused_is_refused_at_once_and_what_fails_can_be_read() -> None:
    async with served() as (server, client):
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="nobody", input="hello", background=True)
        with pytest.raises(openai.BadRequestError) as caught:
            await begin(client, "hello", store=False)
        assert caught.value.param == "background"
        begun = await begin(client, "die late")
        await wait_idle(server)
        failed = await client.responses.retrieve(begun.id)
        assert failed.error is not None
        assert (failed.status, failed.to_dict()["error"]["code"]) == ("failed", "engine_unavailable")  # type: ignore[index]  # an object, by the protocol


@pytest.mark.parametrize(
    ("query", "param"),
    [("stream=maybe", "stream"), ("stream=true&starting_after=x", "starting_after"), ("stream=true", "stream")],
)
async def test_a_stream_that_cannot_be_is_refused(query: str, param: str) -> None:
    async with served() as (server, client):
        if query == "stream=true":
            response_id = (await client.responses.create(model="test", input="hello")).id
        else:
            response_id = (await begin(client, "hello")).id
        async with httpx.AsyncClient(base_url=server.url) as plain:
            answer = await plain.get(f"/responses/{response_id}?{query}")
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


async def test_a_server_that_ends_stops_what_runs_in_the_background() -> None:
    async with served() as (server, client):
        begun = await begin(client, "forever")
        await begin(client, "forever")
        await server.app.connections.drain(timeout_s=0.01)
        await wait_idle(server)
        assert (await client.responses.retrieve(begun.id)).status == "cancelled"
        with pytest.raises(openai.InternalServerError):
            await begin(client, "hello")
