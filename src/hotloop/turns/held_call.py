"""A call of a tool with item types of its own: held until it is whole, for only then there is an item to show."""

import msgspec

from hotloop.protocol.items import TypedCall
from hotloop.protocol.response import ResponseStream
from hotloop.protocol.typed_calls import fields_of_call


class HeldCall:
    """The arguments so far."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._pieces: list[str] = []
        self.says_otherwise = False  # once closed: the item does not say what was sampled

    def add(self, text: str) -> None:
        """The next piece."""
        self._pieces.append(text)

    def close(self, stream: ResponseStream, *, complete: bool) -> list[bytes]:
        """The item's events. A call that was cut off or garbled comes out as text: nothing the model wrote is lost."""
        text = "".join(self._pieces)
        fields = fields_of_call(self._kind, text) if complete else None
        if fields is not None:
            events = stream.whole_call(self._kind, fields)
            item = stream.output[-1]
            assert isinstance(item, TypedCall)
            self.says_otherwise = msgspec.json.decode(item.arguments) != msgspec.json.decode(text)
            return events
        self.says_otherwise = True
        return _as_text(stream, text, complete=complete)


class HeldApproval:
    """The arguments so far of a call that the client is to allow first."""

    def __init__(self, label: str, name: str) -> None:
        self._label = label
        self._name = name
        self._pieces: list[str] = []
        self.says_otherwise = False  # see HeldCall

    def add(self, text: str) -> None:
        """The next piece."""
        self._pieces.append(text)

    def close(self, stream: ResponseStream, *, complete: bool) -> list[bytes]:
        """The item's events. A call that was cut off comes out as text."""
        text = "".join(self._pieces)
        if complete:
            return stream.approval_request(self._label, self._name, text or "{}")
        self.says_otherwise = True
        return _as_text(stream, text, complete=False)


def _as_text(stream: ResponseStream, text: str, *, complete: bool) -> list[bytes]:
    return [
        *stream.open_item("message"),
        *([stream.delta(text)] if text else []),
        *stream.close_item(complete=complete),
    ]
