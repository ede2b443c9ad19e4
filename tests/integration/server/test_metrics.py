"""`GET /metrics` over a real socket: what it counts is what happened."""

import asyncio
import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from tests.support.live_server import LiveServer, calls, final_response, live_server, open_socket
from tests.support.scripted_model import LOOK_UP, scripted_model

from hotloop.config import ServerSettings
from hotloop.safety.patterns import PatternPolicy
from hotloop.session.chain_cache import CacheLimits, ChainCache
from hotloop.storage.memory import MemoryStore

ROOT = Path(__file__).parents[3]
DOCUMENT = ROOT / "docs/metrics.md"
SOURCE = ROOT / "src/hotloop"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def families(server: LiveServer, **headers: str) -> list[Metric]:
    async with httpx.AsyncClient() as client:
        answer = await client.get(server.url.removesuffix("/v1") + "/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    return list(text_string_to_metric_families(answer.text))


async def scrape(server: LiveServer, **headers: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in await families(server, **headers)
        for sample in family.samples
    }


def turns(samples: Samples, transport: str, outcome: str) -> float:
    return samples.get(("hotloop:requests_total", (("outcome", outcome), ("transport", transport))), 0)


async def test_turns_tokens_fallbacks_and_refusals_are_counted() -> None:
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        first = await peer.turn(input="two steps", tools=[LOOK_UP], store=False)
        (call,) = calls(first)
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "x"}
        done = final_response(
            await peer.turn(
                input=[output], tools=[LOOK_UP], previous_response_id=final_response(first)["id"], instructions="New."
            )
        )
        await peer.turn(input="hi", previous_response_id="resp_unknown")
        samples = await scrape(server)
    assert turns(samples, "websocket", "completed") == 2
    assert turns(samples, "websocket", "refused:previous_response_not_found") == 1
    assert samples["hotloop:fallbacks_total", (("reason", "context_changed"),)] == 1
    usage = [final_response(first)["usage"], done["usage"]]
    assert samples["hotloop:prompt_tokens_total", ()] == sum(one["input_tokens"] for one in usage)
    cached = [one["input_tokens_details"]["cached_tokens"] for one in usage]
    assert samples["hotloop:cached_tokens_total", ()] == sum(cached)
    assert samples["hotloop:received_bytes_total", ()] > 200
    assert samples["hotloop:sent_bytes_total", ()] > 2000
    assert samples["hotloop:e2e_request_latency_seconds_count", ()] == 3
    assert samples["hotloop:time_to_engine_seconds_count", ()] == 2
    assert samples["hotloop:generation_tokens_total", ()] == sum(one["output_tokens"] for one in usage)
    assert samples["hotloop:time_to_first_token_seconds_count", ()] == 2
    gaps = sum(one["output_tokens"] - 1 for one in usage)
    assert samples["hotloop:inter_token_latency_seconds_count", ()] == gaps
    assert samples["hotloop:request_time_per_output_token_seconds_count", ()] == 2
    assert samples["hotloop:request_time_per_output_token_seconds_sum", ()] > 0
    assert samples["hotloop:inter_token_latency_seconds_sum", ()] > 0
    assert samples["hotloop:connections", ()] == 1
    assert samples["hotloop:num_requests_running", ()] == 0


async def test_bytes_of_http_and_of_the_background_are_counted() -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient() as client:

        async def post(**fields: bool) -> tuple[int, bytes]:
            body = json.dumps({"model": "test", "input": "hello", "stream": True, **fields}).encode()
            answer = await client.post(
                f"{server.url}/responses", content=body, headers={"content-type": "application/json"}
            )
            return len(body), answer.content

        asked, streamed = await post(store=False)
        samples = await scrape(server)
        assert samples["hotloop:received_bytes_total", ()] == asked
        assert samples["hotloop:sent_bytes_total", ()] == len(streamed) - len(b"data: [DONE]\n\n")
        asked_again, followed = await post(background=True)
        samples = await scrape(server)
        assert samples["hotloop:received_bytes_total", ()] == asked + asked_again
        events = [line.removeprefix(b"data: ") for line in followed.split(b"\n") if line.startswith(b"data: {")]
        sent = len(streamed) - len(b"data: [DONE]\n\n") + sum(map(len, events))
        assert samples["hotloop:sent_bytes_total", ()] == sent


async def test_a_connection_that_is_gone_is_none() -> None:
    async with live_server(scripted_model()) as server:
        async with open_socket(server), open_socket(server):
            assert (await scrape(server))["hotloop:connections", ()] == 2
        async with asyncio.timeout(30):
            await server.app.connections.wait_empty()
        assert (await scrape(server))["hotloop:connections", ()] == 0


async def test_what_is_remembered_is_accounted_under_its_name() -> None:
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        tokens = 0
        for word in ("hello", "hello again", "think", "think"):
            tools = [LOOK_UP] * (word == "hello")
            done = final_response(await peer.turn(input=word, instructions=f"{word}, then.", tools=tools))
            tokens += done["usage"]["total_tokens"]
        samples = await scrape(server)
        services = server.app.services
        held = {
            "chains": (services.chains.total_bytes, len(services.chains)),
            "prefixes": (services.prefixes.total_bytes, len(services.prefixes)),
            "items": (services.item_digests.size_bytes, len(services.item_digests)),
            "contexts": (services.contexts.total_bytes, len(services.contexts)),
            "texts": (services.raw_texts.size_bytes, len(services.raw_texts)),
        }
        assert samples["hotloop:token_log_bytes", ()] == services.models["test"].kept_bytes
    shown = {
        cache: tuple(samples[f"hotloop:cache_{what}", (("cache", cache),)] for what in ("bytes", "entries"))
        for cache in held
    }
    assert shown == held
    assert held["chains"][1] == 4
    figures = [figure for pair in held.values() for figure in pair]
    assert min(figures) > 0 and len(set(figures)) == len(figures), "else one could stand for another"
    assert samples["hotloop:token_log_bytes", ()] >= 4 * tokens


async def test_what_is_kept_for_clients_that_come_back_is_accounted() -> None:
    async with live_server(scripted_model()) as server, httpx.AsyncClient() as client:

        async def kept(what: str) -> dict[str, float]:
            samples = await scrape(server)
            caches = ("stored", "background_events", "idempotent_answers")
            return {cache: samples[f"hotloop:cache_{what}", (("cache", cache),)] for cache in caches}

        async def post(key: str | None = None, **fields: Any) -> bytes:
            body = {"model": "test", "input": "hello", "store": False, **fields}
            headers = {} if key is None else {"idempotency-key": key}
            return (await client.post(f"{server.url}/responses", json=body, headers=headers)).content

        nothing = {"stored": 0, "background_events": 0, "idempotent_answers": 0}
        assert await kept("bytes") == await kept("entries") == nothing
        answers = [await post(key) for key in ("a", "b")]
        assert await kept("entries") == {**nothing, "idempotent_answers": 2}
        size = (await kept("bytes"))["idempotent_answers"]
        assert len(b"".join(answers)) < size < len(b"".join(answers)) + 2000
        followed = await post(store=True, background=True, stream=True)
        assert await kept("entries") == {"stored": 1, "background_events": 1, "idempotent_answers": 2}
        bytes_ = await kept("bytes")
        store = server.app.services.store
        assert isinstance(store, MemoryStore)
        assert bytes_["stored"] == store.total_bytes > 100
        assert bytes_["background_events"] == sum(
            len(line) - len(b"data: ") for line in followed.split(b"\n") if line.startswith(b"data: {")
        )


async def test_chains_that_a_bound_pushes_out_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.app.ChainCache", partial(ChainCache, CacheLimits(entries_per_connection=2)))
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        for _ in range(5):
            await peer.turn(input="hello", store=False)
        samples = await scrape(server)
    assert samples["hotloop:chain_evictions_total", ()] == 3
    assert samples["hotloop:cache_entries", (("cache", "chains"),)] == 2


async def test_a_history_that_was_recognised_is_counted() -> None:
    hello, go_on = ({"role": "user", "content": text} for text in ("hello", "Go on."))
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        first = final_response(await peer.turn(input=[hello], store=False))
        await peer.turn(input=[hello, *first["output"], go_on], store=False)
        samples = await scrape(server)
    marks_behind_the_answer = 1
    recognised = first["usage"]["total_tokens"] + marks_behind_the_answer
    assert samples["hotloop:recognised_tokens_total", ()] == recognised


async def test_findings_of_the_safety_policy_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotloop.app.PatternPolicy", partial(PatternPolicy, flag={"plum": "plum", "pear": "pear"}))
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        for word in ("a plum", "a plum and a pear", "an apple"):
            await peer.turn(input=word, store=False)
        samples = await scrape(server)
    assert samples["hotloop:safety_findings_total", (("rule", "plum"),)] == 2
    assert samples["hotloop:safety_findings_total", (("rule", "pear"),)] == 1


async def test_what_runs_and_what_waits_is_seen() -> None:
    async with live_server(scripted_model()) as server, open_socket(server) as peer:
        for _ in range(3):
            await peer.send(input="slow start")
        assert (await peer.receive())["type"] == "response.created"
        samples = await scrape(server)
        assert samples["hotloop:num_requests_running", ()] == 1
        assert samples["hotloop:num_requests_waiting", ()] == 2


async def test_the_key_is_asked_for() -> None:
    async with live_server(scripted_model(), ServerSettings(port=0, api_key="k")) as server:
        async with httpx.AsyncClient() as client:
            refused = await client.get(server.url.removesuffix("/v1") + "/metrics")
        assert refused.status_code == 401
        assert await scrape(server, authorization="Bearer k")


async def test_the_document_names_every_metric_and_no_other() -> None:
    async with live_server(scripted_model()) as server:
        shown = {
            family.name.removeprefix("hotloop:") + "_total" * (family.type == "counter"): family.type
            for family in await families(server)
        }
    section = DOCUMENT.read_text().partition("## Slower paths")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    named = {name.partition("{")[0]: row[2].strip() for row in rows for name in re.findall(r"`([^`]+)`", row[1])}
    assert named == shown


def test_the_document_tells_every_slower_path_by_the_name_it_has() -> None:
    section = DOCUMENT.read_text().partition("## Slower paths")[2].partition("## Traces")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    source = "\n".join(file.read_text() for file in SOURCE.rglob("*.py"))
    assert len(named) > 10
    assert [name for name in sorted(named) if f'"{name}"' not in source] == []
