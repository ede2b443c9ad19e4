"""JSON that items carry and nobody here looks into: kept as text.

A value of five million members takes a third of a second to build, a third of that to free, and every collection of
garbage in between to walk; its text is copied. Whoever has to know what is in it decodes it.
"""

from typing import Any, ClassVar, Final

import msgspec

MAX_SHOWN_CHARS = 65_536
_HIDDEN = ("encrypted_content",)
_NAMES: Final[dict[type, str]] = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "array",
    dict: "object",
}


class JsonValue:
    """Any value. `text` is its JSON, compact. Equal texts are equal values."""

    __slots__ = ("_canonical", "text")
    wanted: ClassVar[type | None] = None
    wanted_name: ClassVar[str] = ""

    def __init__(self, text: bytes, canonical: bytes | None = None) -> None:
        self.text = text
        self._canonical = canonical

    @property
    def canonical(self) -> bytes:
        """The same with the keys in order: equal for equal values, and only for them. Worked out once."""
        if self._canonical is None:
            found = msgspec.json.encode(msgspec.json.decode(self.text), order="deterministic")
            self._canonical = self.text if found == self.text else found  # most often: one text
        return self._canonical

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonValue) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class JsonArray(JsonValue):
    """An array."""

    __slots__ = ()
    wanted = list
    wanted_name = "array"


class NullableArray(JsonArray):
    """An array, in a field that may be null instead."""

    __slots__ = ()
    wanted_name = "array | null"


class JsonText:
    """JSON as a client wrote it, for a model that can only be shown that."""

    __slots__ = ("_shown", "canonical", "text")

    def __init__(self, text: str, shown: str | None = None, canonical: bytes | None = None) -> None:
        self.text = text
        self.canonical = canonical  # what `session.canonical` makes of it, once it has
        self._shown = shown

    @property
    def shown(self) -> str:
        """What a model is shown of it: worked out once."""
        if self._shown is None:
            self._shown = readable(self.text.encode())
        return self._shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JsonText) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"JsonText({self.text!r})"


EMPTY_ARRAY: Final = JsonArray(b"[]")  # the one there is: a field that holds it is left out where it is the default


def readable(raw: bytes, hidden: tuple[str, ...] = _HIDDEN) -> str:
    """JSON as a model is shown it: so much of it, without what no model can read."""
    if len(raw) <= MAX_SHOWN_CHARS and not any(b'"%b"' % name.encode() in raw for name in hidden):
        return raw.decode("utf-8", "replace")
    try:
        fields: dict[str, Any] = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return raw[:MAX_SHOWN_CHARS].decode("utf-8", "replace")
    text = msgspec.json.encode({key: value for key, value in fields.items() if key not in hidden})
    return text[:MAX_SHOWN_CHARS].decode("utf-8", "replace")


def from_json(kind: type[JsonValue] | type[JsonText], value: Any) -> JsonValue | JsonText:
    """What a decoder of JSON makes of a field of these types (`dec_hook`)."""
    if issubclass(kind, JsonText):
        if not isinstance(value, str):
            raise TypeError(f"Expected `str`, got `{_NAMES[type(value)]}`")
        return JsonText(value)
    if kind.wanted is not None and not isinstance(value, kind.wanted):
        raise TypeError(f"Expected `{kind.wanted_name}`, got `{_NAMES[type(value)]}`")
    return EMPTY_ARRAY if kind is JsonArray and not value else kind(msgspec.json.encode(value))


def to_json(value: JsonValue | JsonText) -> msgspec.Raw | str:
    """What an encoder of JSON writes for them (`enc_hook`)."""
    return value.text if isinstance(value, JsonText) else msgspec.Raw(value.text)
