"""What the model was told and has said: the one copy from which any request can be written.

Items are kept as JSON bytes, in order, and only appended. A transport that knows what the server already holds sends
`items[known:]`; one that knows nothing sends all of them. So a lost connection loses nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()


class InputText(msgspec.Struct, frozen=True, tag_field="type", tag="input_text"):
    """A piece of what a user says."""

    text: str


class UserMessage(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    """What a user says."""

    content: list[InputText]
    role: str = "user"


class CallOutput(msgspec.Struct, frozen=True):
    """What a call came to. `type` is the call's own type and `_output`."""

    type: str
    call_id: str
    output: str


class _Create(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of `response.create` and of POST /v1/responses. None is left out."""

    type: str | None = None  # WebSocket only
    model: str
    store: bool  # required here, so that the server's default (true) never decides
    stream: bool | None = None  # HTTP only: docs/protocol.md §2.1 forbids clients to send it on WebSocket
    generate: bool | None = None
    previous_response_id: str | None = None
    instructions: str | None = None
    tools: msgspec.Raw
    include: tuple[str, ...]
    max_output_tokens: int | None = None
    input: Sequence[msgspec.Raw]


class Conversation:
    """One chain of turns with one model.

    Args:
        tools: tool definitions as they go over the wire; sent with every request, since servers do not inherit them.
        max_output_tokens: limit of each response, None for the server's own.
    """

    def __init__(
        self,
        *,
        model: str,
        instructions: str,
        tools: Sequence[Mapping[str, Any]],
        max_output_tokens: int | None = None,
    ) -> None:
        self._model = model
        self._instructions = instructions
        self._tools = msgspec.Raw(_encoder.encode(list(tools)))
        self._max_output_tokens = max_output_tokens
        self._items: list[msgspec.Raw] = []

    def __len__(self) -> int:
        return len(self._items)

    def add(self, items: Iterable[UserMessage | CallOutput]) -> None:
        """Append what is to be sent with the next turn."""
        self._items += [msgspec.Raw(_encoder.encode(item)) for item in items]

    def commit(self, items: Iterable[msgspec.Raw]) -> None:
        """Append what the model said, unchanged: any server must take its own items back."""
        self._items += [item.copy() for item in items]  # a Raw keeps its whole message alive, a copy does not

    def create_event(self, *, known: int, previous_response_id: str | None) -> bytes:
        """A `response.create` message with the items from `known` on."""
        return self._encode(
            type="response.create", previous_response_id=previous_response_id, items=self._items[known:]
        )

    def warm_up_event(self) -> bytes:
        """A `response.create` that hands over instructions and tools and asks for no output."""
        return self._encode(type="response.create", generate=False, items=[])

    def create_body(self) -> bytes:
        """A streaming HTTP request with the whole history."""
        return self._encode(stream=True, items=self._items)

    def _encode(
        self,
        *,
        items: Sequence[msgspec.Raw],
        type: str | None = None,
        stream: bool | None = None,
        generate: bool | None = None,
        previous_response_id: str | None = None,
    ) -> bytes:
        return _encoder.encode(
            _Create(
                type=type,
                model=self._model,
                store=False,
                stream=stream,
                generate=generate,
                previous_response_id=previous_response_id,
                instructions=self._instructions or None,
                tools=self._tools,
                include=("reasoning.encrypted_content",),  # or reasoning could not be sent again on a new connection
                max_output_tokens=self._max_output_tokens,
                input=items,
            )
        )
