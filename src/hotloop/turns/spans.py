"""One OpenTelemetry span per turn, made from its record when it is over (OpenTelemetry's semantic conventions for GenAI).

Asked for with `HOTLOOP_TRACES=on`; needs the extra `otel`. Where spans go is the environment's business: the provider that
`opentelemetry-instrument`, or `OTEL_PYTHON_TRACER_PROVIDER`, sets up. No prompt or output text is ever in a span.
"""

import time
from typing import Final

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from hotloop.turns.record import TurnRecord

_FINISH_REASONS: Final = {"completed": "stop", "max_output_tokens": "length", "content_filter": "content_filter"}


class TurnSpans:
    """Makes the spans.

    Args:
        provider: whose tracer to use; None: the environment's.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("hotloop", tracer_provider=provider)

    def add(self, record: TurnRecord) -> None:
        """The span of a turn that has just ended."""
        ended_ns = time.time_ns()

        def on_wall_clock(stamp: float) -> int:
            return ended_ns - round((record.flushed - stamp) * 1e9)

        span = self._tracer.start_span(
            f"chat {record.model}".rstrip(),
            kind=SpanKind.SERVER,
            attributes=_attributes(record),
            start_time=on_wall_clock(record.received),
        )
        for name in ("admitted", "rendered", "submitted", "first_token", "last_token", "committed"):
            if stamp := getattr(record, name):
                span.add_event(f"hotloop.{name}", timestamp=on_wall_clock(stamp))
        kind, _, detail = record.outcome.partition(":")
        if kind in ("failed", "refused"):
            span.set_attribute("error.type", detail)
            span.set_status(Status(StatusCode.ERROR, detail))
        span.end(ended_ns)


def _attributes(record: TurnRecord) -> dict[str, AttributeValue]:
    usage = record.usage
    attributes: dict[str, AttributeValue] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "hotloop",
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cached_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "hotloop.transport": record.transport,
        "hotloop.outcome": record.outcome,
        "hotloop.engine_s": record.engine_s,
        "hotloop.fallbacks": list(record.fallbacks),
    }
    if record.model:
        attributes["gen_ai.request.model"] = attributes["gen_ai.response.model"] = record.model
    if record.response_id:
        attributes["gen_ai.response.id"] = record.response_id
    if record.first_token:
        attributes["gen_ai.response.time_to_first_chunk"] = record.first_token - record.received
    kind, _, detail = record.outcome.partition(":")
    finish = _FINISH_REASONS.get(detail or kind)
    if finish is not None:
        attributes["gen_ai.response.finish_reasons"] = [finish]
    return attributes
