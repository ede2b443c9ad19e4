"""Spans of a whole server: one a turn where they are asked for, none where they are not."""

from collections.abc import Generator

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests.support.live_server import live_server, open_socket
from tests.support.scripted_model import scripted_model

from hotloop.config import ServerSettings


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Generator[InMemorySpanExporter]:
    """Of the provider that the environment is said to have set up."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


@pytest.mark.parametrize(("traces", "expected"), [("on", ["websocket", "http"]), ("off", [])])
async def test_a_turn_is_a_span_if_that_is_asked_for(
    traces: str, expected: list[str], exporter: InMemorySpanExporter
) -> None:
    async with live_server(scripted_model(), ServerSettings(port=0, traces=traces)) as server:
        async with open_socket(server) as peer:
            await peer.turn(input="hello", store=False)
        async with httpx.AsyncClient() as client:
            await client.post(f"{server.url}/responses", json={"model": "test", "input": "hello"})
        spans = [dict(span.attributes or {}) for span in exporter.get_finished_spans()]
    assert [span["hotloop.transport"] for span in spans] == expected
