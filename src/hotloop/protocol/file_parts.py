"""Files as content parts: which of them are text, and how a model is shown one (docs/protocol.md §4.2)."""

import base64
import binascii
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from hotloop.errors import ApiError, InvalidRequest, MissingParameter, UnsupportedValue
from hotloop.protocol.items import ContentPart, InputFile, InputText, ResultPart, text_of

MAX_TEXT_BYTES = 10_485_760  # Open Responses 2026-04-24: longest text field

_NAMES = (
    "ecmascript graphql javascript json jsonl ndjson node rtf sql toml typescript x-httpd-php x-javascript x-json x-jsonlines"
    " x-ndjson x-perl x-python x-ruby x-sh x-shellscript x-sql x-tex x-toml x-typescript x-yaml xml yaml"
)
_TEXT_TYPES = frozenset(f"application/{name}" for name in _NAMES.split())
_UNSAID = ("", "application/octet-stream", "binary/octet-stream")


def is_text_type(media_type: str) -> bool:
    """Content of this type is text: any `text/…`, JSON, XML, source code."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _TEXT_TYPES or kind.endswith(("+json", "+xml", "+yaml"))


def text_part(part: InputFile, param: str) -> InputText:
    """An inline file as the text a model is shown: its name, then what is in it. Raises the ApiError that says why not."""
    text = _text(part.file_data or "", f"{param}.file_data")
    return InputText(text=f"[{part.filename or 'file'}]\n{text}")


def readable_parts(parts: Sequence[ContentPart | ResultPart]) -> list[ContentPart | ResultPart]:
    """The parts, with inline text files as their text; any other file is left for the format to refuse."""
    return [_or_as_it_is(part) if isinstance(part, InputFile) else part for part in parts]


def text_with_files(content: str | Sequence[ContentPart] | Sequence[ResultPart]) -> str:
    """The text of a content field, inline text files included."""
    return content if isinstance(content, str) else text_of(readable_parts(content))


def data_url(media_type: str, data: bytes) -> str:
    """The content as `file_data` or `image_url` has it."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _or_as_it_is(part: InputFile) -> InputFile | InputText:
    try:
        return text_part(part, "")
    except ApiError:
        return part


def _text(file_data: str, param: str) -> str:
    if not file_data:
        raise MissingParameter(param)
    media_type, data = _content(file_data, param)
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidRequest(f"'{param}' holds more than {MAX_TEXT_BYTES} bytes.", param=param)
    is_unsaid = media_type in _UNSAID
    if not is_unsaid and not is_text_type(media_type):
        kind = media_type if media_type.isprintable() else "unknown"
        raise UnsupportedValue(f"This model takes text only: it cannot read a file of type {kind[:80]}.", param=param)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    # A file of no stated type is text if it can be; an empty one is.
    if (data and not text) or (is_unsaid and ("\0" in text or text.startswith("%PDF-"))):
        raise UnsupportedValue("This model takes text only: the file is not text in UTF-8.", param=param)
    return text


def _content(file_data: str, param: str) -> tuple[str, bytes]:
    """Media type and bytes of a data URL, or of plain base64, which names no type."""
    if not file_data.startswith("data:"):
        return "", _unpacked(file_data, param)
    head, comma, body = file_data.removeprefix("data:").partition(",")
    if not comma:
        raise InvalidRequest(f"'{param}' is not a data URL.", param=param)
    media_type, *options = head.split(";")
    is_packed = options[-1:] == ["base64"]
    return media_type.strip().lower(), _unpacked(body, param) if is_packed else unquote_to_bytes(body)


def _unpacked(body: str, param: str) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"'{param}' is not base64.", param=param) from None
