"""One span per turn, in the words of OpenTelemetry's GenAI conventions, and no text in it."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.trace import SpanKind, StatusCode
from tests.support.turns import Pipeline

from hotloop.turns.spans import TurnSpans

CONVENTIONS = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}


def exporting(pipeline: Pipeline) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    pipeline.records.tell = TurnSpans(provider).add
    return exporter


def attributes_of(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def test_a_turn_makes_one_span_out_of_its_record() -> None:
    pipeline = Pipeline()
    exporter = exporting(pipeline)
    await pipeline.run(input="a secret", store=False)
    (span,) = exporter.get_finished_spans()
    (record,) = pipeline.records.latest()
    assert (span.name, span.kind, span.status.status_code) == ("chat toy", SpanKind.SERVER, StatusCode.UNSET)
    found = attributes_of(span)
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model"] == "toy"
    assert found["gen_ai.response.id"] == record.response_id
    assert found["gen_ai.response.finish_reasons"] == ("stop",)
    assert found["gen_ai.usage.input_tokens"] == record.usage.prompt_tokens > 0
    assert found["gen_ai.usage.output_tokens"] == record.usage.output_tokens > 0
    assert found["gen_ai.response.time_to_first_chunk"] == record.first_token - record.received
    assert {name for name in found if name.startswith("gen_ai.")} <= CONVENTIONS
    assert [event.name for event in span.events] == [
        f"hotloop.{stamp}" for stamp in ("admitted", "rendered", "submitted", "first_token", "last_token", "committed")
    ]
    assert span.start_time is not None
    assert span.end_time is not None
    assert abs((span.end_time - span.start_time) / 1e9 - (record.flushed - record.received)) < 1e-6
    assert "secret" not in span.to_json()


async def test_a_refused_turn_says_why() -> None:
    pipeline = Pipeline()
    exporter = exporting(pipeline)
    await pipeline.run(input="hi", previous_response_id="resp_unknown")
    (span,) = exporter.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert attributes_of(span)["error.type"] == "previous_response_not_found"


async def test_a_failing_exporter_does_not_fail_the_turn() -> None:
    def broken(record: object) -> None:
        raise RuntimeError("no exporter")

    pipeline = Pipeline()
    pipeline.records.tell = broken
    outcome = await pipeline.run(input="hi", store=False)
    assert outcome.error is None
