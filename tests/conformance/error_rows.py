"""The rows of the error table (docs/protocol.md §10.4) that a create provokes, over either transport."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tests.support.scripted_model import LOOK_UP

from hotloop.safety.patterns import PatternPolicy
from hotloop.seams.classifier import Classifier, ClassifierStream, Direction, Verdict

Json = dict[str, Any]

# refused: one `error` event, a plain HTTP answer. failed: found after `created`, so a `response.failed` ends the stream.
Kind = Literal["refused", "failed"]


class Policy:
    """Implements `Classifier`: blocks "the forbidden word", and has a bug that "crash" brings out."""

    is_blocking = True
    is_idle = False

    def __init__(self) -> None:
        self._patterns: Classifier = PatternPolicy(block={"word": "the forbidden word"})

    def stream(self, direction: Direction) -> ClassifierStream:
        return _Stream(self._patterns.stream(direction))


class _Stream:
    def __init__(self, patterns: ClassifierStream) -> None:
        self._patterns = patterns

    def feed(self, delta: str) -> Sequence[Verdict]:
        if "crash" in delta:
            raise RuntimeError("a bug of the policy")
        return self._patterns.feed(delta)


@dataclass(frozen=True, slots=True)
class Row:
    """A create, and what becomes of it.

    `evicts`: on a WebSocket its parent is gone from the connection afterwards. Refusals before the request was bound to
    its parent leave it (docs/protocol.md §5.4).
    """

    name: str
    code: str
    fields: Json
    status: int = 400
    type: str = "invalid_request_error"
    param: str | None = None
    kind: Kind = "refused"
    evicts: bool = True
    parent: Json = field(default_factory=lambda: {"input": "hello"})
    takes_parent: bool = True
    context_tokens: int = 100_000
    store_bytes: int = 2**20

    @property
    def continues(self) -> bool:
        """Its parent takes a question; otherwise it waits for the outputs of its calls."""
        return bool(self.parent["input"] == "hello")


_OUTPUT = {"type": "function_call_output", "call_id": "call_unknown", "output": "found"}
_IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
_MANY_TOOLS = [{"type": "function", "name": f"f{number}"} for number in range(1025)]
_SERVER = Row("", "server_error", {}, 500, "server_error", kind="failed")

ROWS = [
    # Found while the message is read: nothing was bound yet.
    Row("no model", "missing_required_parameter", {"model": None}, param="model", evicts=False),
    Row("a wrong type", "invalid_type", {"temperature": "hot"}, param="temperature", evicts=False),
    Row("a wrong value", "invalid_value", {"temperature": 9}, param="temperature", evicts=False),
    Row("a stored prompt", "unsupported_parameter", {"prompt": {"id": "p"}}, param="prompt", evicts=False),
    # Found at admission: a same-lane continuation that fails takes its parent with it.
    Row("an unknown model", "model_not_found", {"model": "nobody"}, 404, param="model"),
    Row(
        "an item without content",
        "missing_required_parameter",
        {"input": [{"type": "message", "role": "user"}]},
        param="input[0].content",
    ),
    Row("an output without its call", "invalid_value", {"input": [_OUTPUT]}, param="input"),
    Row(
        "a call without its output",
        "invalid_value",
        {"input": "go on", "tools": [LOOK_UP]},
        param="input",
        parent={"input": "two steps", "tools": [LOOK_UP]},
    ),
    Row("an unknown choice", "invalid_value", {"tool_choice": {"type": "function", "name": "x"}}, param="tool_choice"),
    Row("too many tools", "schema_too_complex", {"tools": _MANY_TOOLS}, param="tools"),
    Row(
        "an unknown item",
        "item_not_found",
        {"input": [{"type": "item_reference", "id": "msg_unknown"}]},
        404,
        param="input[0].id",
    ),
    Row(
        "an unknown parent",
        "previous_response_not_found",
        {"previous_response_id": "resp_unknown"},
        param="previous_response_id",
        evicts=False,  # that one is not there; the lane's own is not meant
    ),
    Row(
        "an unknown conversation",
        "conversation_not_found",
        {"conversation": "conv_unknown"},
        404,
        param="conversation",
        takes_parent=False,  # a create names one or the other
    ),
    # Found when the model is asked.
    Row(
        "an image",
        "unsupported_value",
        {"input": [{"role": "user", "content": [_IMAGE]}]},
        param="input[0].content[0]",
    ),
    Row(
        "a URL to fetch",
        "remote_url_not_allowed",
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.org/a.txt"}]}]},
        param="input[0].content[0].file_url",
    ),
    Row(
        "too long a context",
        "context_length_exceeded",
        {"input": "word " * 400},
        param="input",
        kind="failed",
        context_tokens=300,
    ),
    Row(
        "a forbidden input",
        "content_policy_violation",
        {"input": "the forbidden word"},
        param="input[0]",
        kind="failed",
    ),
    replace(_SERVER, name="a bug", fields={"input": "crash"}),
    replace(_SERVER, name="an engine that dies", code="engine_unavailable", status=503, fields={"input": "die early"}),
    replace(_SERVER, name="one that dies late", code="engine_unavailable", status=503, fields={"input": "die late"}),
    replace(_SERVER, name="a silent engine", code="engine_timeout", status=504, fields={"input": "time out"}),
    replace(
        _SERVER,
        name="a full store",
        code="storage_unavailable",
        status=503,
        fields={"input": "hello", "store": True},
        store_bytes=10,
    ),
]
