"""A call of a tool with item types of its own: held until it is whole, for only then there is an item to show."""

from hotloop.protocol.response import ResponseStream
from hotloop.protocol.typed_calls import fields_of_call


class HeldCall:
    """The arguments so far."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._pieces: list[str] = []

    def add(self, text: str) -> None:
        """The next piece."""
        self._pieces.append(text)

    def close(self, stream: ResponseStream, *, complete: bool) -> list[bytes]:
        """The item's events. A call that was cut off or garbled comes out as text: nothing the model wrote is lost."""
        text = "".join(self._pieces)
        fields = fields_of_call(self._kind, text) if complete else None
        if fields is not None:
            return stream.whole_call(self._kind, fields)
        return [
            *stream.open_item("message"),
            *([stream.delta(text)] if text else []),
            *stream.close_item(complete=complete),
        ]
