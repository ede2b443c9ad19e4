"""Reads the free text of a custom tool out of its arguments, `{"input": "…"}`, while they are being written."""

import json
import re
from typing import cast

_HEAD = re.compile(r'\s*\{\s*"input"\s*:\s*"')
_HEAD_CHARS = 64  # a longer head is not worth streaming for
_HIGH, _LOW = r"\\u[dD][89abAB][0-9a-fA-F]{2}", r"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
# Characters and whole escapes; a high surrogate only with what follows it, so that pairs are never torn.
_WHOLE = re.compile(
    rf'(?:[^"\\]++|\\["\\/bfnrt]|{_HIGH}{_LOW}|{_HIGH}(?=[^\\]|\\[^u]|\\u[^dD]|\\u[dD][^c-fC-F])'
    r"|\\u(?![dD][89abAB])[0-9a-fA-F]{4})*+"
)
_UNFINISHED = re.compile(rf"(?:{_HIGH})?(?:\\(?:u[0-9a-fA-F]{{0,3}})?)?\Z")


class InputReader:
    """One custom call. Arguments of any other shape are delivered whole at the end."""

    __slots__ = ("_held", "_is_closed", "_is_streaming", "_others")

    def __init__(self) -> None:
        self._held = ""
        self._others: list[str] = []  # what came once the head was seen to be another
        self._is_streaming = False
        self._is_closed = False

    def feed(self, text: str) -> str:
        """The part of the tool's text that these arguments add."""
        if self._is_closed:
            return ""
        if self._others:
            self._others.append(text)
            return ""
        text = self._held + text
        if not self._is_streaming:
            head = _HEAD.match(text)
            if head is None:
                if len(text) > _HEAD_CHARS:
                    self._others.append(text)
                self._held = text
                return ""
            self._is_streaming = True
            text = text[head.end() :]
        return self._unescape(text)

    def finish(self) -> str:
        """What is still held, once the arguments are over."""
        if self._is_closed:
            return ""
        if self._is_streaming:
            return self._held
        return _text_in("".join(self._others) or self._held)

    def _unescape(self, text: str) -> str:
        out: list[str] = []
        at = 0
        self._held = ""
        while at < len(text):
            whole = _WHOLE.match(text, at)
            assert whole is not None, "the pattern matches the empty string"
            out.append(_decoded(whole.group()))
            at = whole.end()
            if at == len(text):
                break
            if text[at] == '"':
                self._is_closed = True
                break
            if _UNFINISHED.match(text, at):
                self._held = text[at:]
                break
            out.append(text[at])  # a backslash that begins no JSON escape stands for itself
            at += 1
        return "".join(out)


def _decoded(text: str) -> str:
    if "\\" not in text:
        return text
    decoded: str = json.loads(f'"{text}"', strict=False)
    return decoded.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text_in(arguments: str) -> str:
    """The text meant by arguments of another shape: their only string, else the arguments themselves."""
    try:
        value: object = json.loads(arguments)
    except ValueError:
        return arguments
    if isinstance(value, dict):
        fields = cast("dict[str, object]", value)  # JSON keys are strings
        value = fields.get("input", next(iter(fields.values())) if len(fields) == 1 else None)
    return value if isinstance(value, str) else arguments
