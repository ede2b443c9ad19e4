"""`GET /metrics`: the process in Prometheus' text format.

Names have the stems that users of vLLM know, with our prefix: `vllm:num_requests_running` is `hotloop:num_requests_running`.
Everything about turns comes from their records (`turns/counters.py`), read when asked; nothing is computed on a turn's path.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from hotloop.seams.engine import KvUse
from hotloop.server.connections import OpenConnections
from hotloop.server.door import Door
from hotloop.turns.counters import Histogram, TurnCounters
from hotloop.turns.services import TurnServices

_TOKENS = (
    ("prompt_tokens", "Tokens of all prompts."),
    ("cached_tokens", "Prompt tokens that the engine found in its KV cache."),
    ("restored_tokens", "Cached tokens whose KV had left the engine's KV cache and was brought back from host memory."),
    ("generation_tokens", "Tokens sampled."),
    (
        "recognised_tokens",
        "Prompt tokens of histories sent again that were remembered, neither rendered nor tokenized.",
    ),
)
_HISTOGRAMS = (
    ("time_to_first_token_seconds", "From the request's arrival to the first sampled token.", "first_token"),
    ("inter_token_latency_seconds", "Gaps between output tokens, each as the mean of its turn.", "token_gap"),
    ("request_time_per_output_token_seconds", "Mean gap between the output tokens of a turn.", "per_token"),
    ("e2e_request_latency_seconds", "From the request's arrival to its terminal event.", "duration"),
    ("time_to_engine_seconds", "From the request's arrival to its submission to the engine.", "before_engine"),
)


class Memory(Protocol):
    """Something that is kept, and bounded in bytes."""

    @property
    def total_bytes(self) -> int:
        """Bytes accounted."""
        ...

    def __len__(self) -> int: ...


class MetricsRoute:
    """The endpoint. It asks for the API key like any other."""

    def __init__(
        self, services: TurnServices, door: Door, open_connections: OpenConnections, memories: Mapping[str, Memory]
    ) -> None:
        self._door = door
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Process(services, open_connections, memories))

    async def get(self, request: Request) -> Response:
        """`GET /metrics`."""
        self._door.caller(request.scope)
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class _Process(Collector):
    """Reads the counters when asked."""

    def __init__(
        self, services: TurnServices, open_connections: OpenConnections, memories: Mapping[str, Memory]
    ) -> None:
        self._services = services
        self._open = open_connections
        self._memories = memories

    def collect(self) -> Iterator[Metric]:
        """All families."""
        counters = self._services.records.counters
        yield _gauge("num_requests_running", "Turns between admission and their terminal event.", counters.running)
        yield _gauge("num_requests_waiting", "Requests held until their lane is free.", self._open.waiting)
        yield _gauge("connections", "Connections and HTTP turns that are open.", len(self._open))
        yield from _turns(counters)
        yield from _caches(self._services, self._memories)


def _turns(counters: TurnCounters) -> Iterator[Metric]:
    turns = CounterMetricFamily("hotloop:requests", "Turns that ended.", labels=["transport", "outcome"])
    for (transport, outcome), count in counters.outcomes.items():
        turns.add_metric([transport, outcome], count)
    yield turns
    values = (
        counters.prompt_tokens,
        counters.cached_tokens,
        counters.restored_tokens,
        counters.output_tokens,
        counters.recognised_tokens,
    )
    for (name, help_), value in zip(_TOKENS, values, strict=True):
        yield CounterMetricFamily(f"hotloop:{name}", help_, value=value)
    yield _labelled("fallbacks", "Slower paths taken, by reason.", "reason", counters.fallbacks)
    yield from _tool_servers(counters)
    yield _labelled("safety_findings", "Findings of the safety policy, by rule.", "rule", counters.findings)
    yield CounterMetricFamily("hotloop:received_bytes", "Bytes of requests.", value=counters.bytes_in)
    yield CounterMetricFamily("hotloop:sent_bytes", "Bytes of events.", value=counters.bytes_out)
    for name, help_, field in _HISTOGRAMS:
        histogram: Histogram = getattr(counters, field)
        yield HistogramMetricFamily(f"hotloop:{name}", help_, buckets=histogram.cumulative(), sum_value=histogram.total)


def _tool_servers(counters: TurnCounters) -> Iterator[Metric]:
    help_ = "Lists and calls of MCP servers; without a name where a request gave the server's URL."
    asked = CounterMetricFamily("hotloop:tool_server_requests", help_, labels=["server", "action", "outcome"])
    for labels, count in counters.hosted.items():
        asked.add_metric(labels, count)
    yield asked
    yield CounterMetricFamily(
        "hotloop:tool_server_seconds",
        "Time in which tool servers were asked and the model waited.",
        value=counters.hosted_s,
    )


def _caches(services: TurnServices, more: Mapping[str, Memory]) -> Iterator[Metric]:
    models = set(services.models.values())
    kv = [use for model in models if (use := model.kv_use) is not None]
    held = GaugeMetricFamily("hotloop:cache_bytes", "Bytes accounted, by memory.", labels=["cache"])
    entries = GaugeMetricFamily("hotloop:cache_entries", "Entries, by memory.", labels=["cache"])
    memories = [
        ("chains", services.chains.total_bytes, len(services.chains)),
        ("prefixes", services.prefixes.total_bytes, len(services.prefixes)),
        ("items", services.item_digests.size_bytes, len(services.item_digests)),
        ("contexts", services.contexts.total_bytes, len(services.contexts)),
        ("texts", services.raw_texts.size_bytes, len(services.raw_texts)),
        *((name, memory.total_bytes, len(memory)) for name, memory in more.items()),
    ]
    if kv:
        memories.append(("parked_kv", sum(use.parked_bytes for use in kv), sum(use.parked_copies for use in kv)))
    for name, size, count in memories:
        held.add_metric([name], size)
        entries.add_metric([name], count)
    yield held
    yield entries
    yield from _kv_cache(kv)
    tokens = sum(model.kept_bytes for model in models)
    yield _gauge("token_log_bytes", "Bytes of the tokens of all chains; what chains share counts once.", tokens)
    yield CounterMetricFamily(
        "hotloop:chain_evictions", "Chains pushed out by a bound.", value=services.chains.evictions
    )


def _kv_cache(kv: Sequence[KvUse]) -> Iterator[Metric]:
    """The engines' own; without a value where none says it."""
    total = sum(use.total_cells for use in kv)
    used = sum(use.cells for use in kv)
    yield _gauge("kv_cache_cells", "Cells of the KV cache; one holds a token.", total or None)
    yield _gauge("kv_cache_used_cells", "Cells in use; what chains share counts once.", used if total else None)
    yield _gauge("kv_cache_usage_perc", "The part of the cells in use, from 0 to 1.", used / total if total else None)


def _gauge(name: str, help_: str, value: float | None) -> Metric:
    return GaugeMetricFamily(f"hotloop:{name}", help_, value=value)


def _labelled(name: str, help_: str, label: str, counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(f"hotloop:{name}", help_, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
