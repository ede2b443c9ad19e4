"""Decoding with msgspec, with every complaint turned into the error that names the field."""

import re
from typing import TypeVar

import msgspec

from hotloop.errors import ApiError, InvalidJson, InvalidRequest, InvalidType, MissingParameter

_T = TypeVar("_T")
_AT_PATH = re.compile(r" - at (?:`key` in )?`\$?(?P<path>[^`]*)`\Z")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")


def translate_validation(error: msgspec.ValidationError, prefix: str = "") -> ApiError:
    """The protocol's error for a msgspec complaint, with the path of the field; `prefix` is where the value stands."""
    text = str(error)
    found = _AT_PATH.search(text)
    path = found["path"].removeprefix(".") if found else ""
    complaint = text[: found.start()] if found else text
    param = f"{prefix}.{path}" if prefix and path and not path.startswith("[") else prefix + path
    missing = _MISSING.search(complaint)
    if missing:
        return MissingParameter(f"{param}.{missing['field']}" if param else missing["field"])
    message = f"Invalid value for '{param}': {complaint}." if param else f"{complaint}."
    kind = InvalidType if ", got `" in complaint else InvalidRequest
    return kind(message, param=param or None)


def decode_as(decoder: "msgspec.json.Decoder[_T]", raw: bytes | msgspec.Raw, prefix: str = "") -> _T:
    """Decode or raise the ApiError that names the field."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise translate_validation(error, prefix) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidJson(f"The message is not valid JSON: {_shorten(error)}.") from None


def check_utf8(message: bytes) -> None:
    """Bytes that are no text are refused also where the decoder does not look at them. Raises InvalidJson."""
    if message.isascii():
        return
    try:
        message.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"The message is not valid JSON: {error.reason} at byte {error.start}.") from None


def _shorten(error: Exception, limit: int = 120) -> str:
    text = str(error).rstrip(".")
    return text if len(text) <= limit else text[:limit] + "…"
