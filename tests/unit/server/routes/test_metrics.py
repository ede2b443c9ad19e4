"""What `GET /metrics` makes of known figures: each is shown under its own name, and under no other."""

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families
from tests.support.scripted_model import scripted_model
from tests.unit.turns.test_record import REFUSED, WHOLE

from hotloop.app import App, build_app
from hotloop.config import ServerSettings

Samples = Mapping[str, float]


async def shown(app: App) -> Samples:
    """Samples by name and labels, as they are written."""
    transport = httpx.ASGITransport(app.asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        answer = await client.get("/metrics")
    return {
        sample.name.removeprefix("hotloop:")
        + "".join(f" {name}={value}" for name, value in sample.labels.items()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_everything_that_a_record_says_is_under_its_name() -> None:
    app = build_app(scripted_model(), ServerSettings())
    records = app.services.records
    records.running = 3
    for record in (WHOLE, REFUSED):
        records.add(record)
    records.note("kv_lost")
    app.services.chains.evictions = 7
    samples = await shown(app)
    assert {name: samples[name] for name in COUNTED} == COUNTED
    assert {name: samples[name] for name in TIMED} == TIMED
    counted = [name for name in samples if name.partition(" ")[0].endswith("_total")]
    assert sorted(counted) == sorted(name for name in COUNTED if name != "num_requests_running")


COUNTED = {
    "num_requests_running": 3,
    "requests_total outcome=completed transport=websocket": 1,
    "requests_total outcome=refused:model_not_found transport=http": 1,
    "prompt_tokens_total": 50,
    "cached_tokens_total": 40,
    "restored_tokens_total": 20,
    "generation_tokens_total": 11,
    "recognised_tokens_total": 30,
    "fallbacks_total reason=kv_forked": 1,
    "fallbacks_total reason=kv_lost": 2,
    "tool_server_requests_total action=list outcome=completed server=files": 1,
    "tool_server_requests_total action=call outcome=failed server=files": 1,
    "tool_server_seconds_total": 0.6,
    "safety_findings_total rule=a rule": 1,
    "received_bytes_total": 1010,
    "sent_bytes_total": 2000,
    "chain_evictions_total": 7,
}
# Their turns are half a second and four long: the bound between them is one, and a value on a bound is below it.
TIMED = {
    "time_to_first_token_seconds_sum": 1.0,
    "time_to_first_token_seconds_count": 1,
    "time_to_first_token_seconds_bucket le=0.5": 0,
    "time_to_first_token_seconds_bucket le=1.0": 1,
    "inter_token_latency_seconds_sum": 1.5,
    "inter_token_latency_seconds_count": 10,
    "inter_token_latency_seconds_bucket le=0.1": 0,
    "inter_token_latency_seconds_bucket le=0.2": 10,
    "request_time_per_output_token_seconds_sum": 0.15,
    "request_time_per_output_token_seconds_count": 1,
    "e2e_request_latency_seconds_sum": 4.5,
    "e2e_request_latency_seconds_bucket le=0.1": 0,
    "e2e_request_latency_seconds_bucket le=1.0": 1,
    "e2e_request_latency_seconds_bucket le=+Inf": 2,
    "time_to_engine_seconds_sum": 0.15,
    "time_to_engine_seconds_bucket le=+Inf": 1,
}
