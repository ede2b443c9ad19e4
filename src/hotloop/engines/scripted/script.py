"""The script file: what the scripted engine says, and when (docs/scripted.md)."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

Seconds = Annotated[float, Meta(ge=0)]


class ScriptError(ValueError):
    """A script that cannot be played. One line: the file, the place in it, the reason."""


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a script file holds: a misspelt key is an error."""


class Pace(_Strict, frozen=True):
    """Tokens per engine step, and seconds between steps (0: as fast as they are taken)."""

    tokens: Annotated[int, Meta(ge=1)] = 1
    seconds: Seconds = 0.0


class Speed(_Strict, frozen=True):
    """A modelled engine: tokens a second that are decoded, and prompt tokens a second that are prefilled."""

    decode: Annotated[float, Meta(gt=0)]
    prefill: Annotated[float, Meta(gt=0)]


class Fail(_Strict, frozen=True):
    """The turn fails after `after_tokens` tokens. `times`: only the first so many times it is played."""

    reason: Literal["unavailable", "timeout", "host_death"] = "unavailable"
    after_tokens: Annotated[int, Meta(ge=0)] = 0
    times: Annotated[int, Meta(ge=1)] | None = None


class Call(_Strict, frozen=True):
    """A call. `arguments` is an object, or JSON text to be written as it stands; a custom tool takes `input`."""

    name: Annotated[str, Meta(min_length=1)]
    arguments: dict[str, Any] | str | None = None
    input: str | None = None


Alternatives = Call | Annotated[list[Call], Meta(min_length=1)]
Texts = str | list[str]


class Turn(_Strict, frozen=True):
    """One answer: reasoning, text, calls, in this order."""

    reasoning: str = ""
    text: str = ""
    call: Alternatives | None = None
    calls: list[Alternatives] = []
    delay: Seconds = 0.0
    pace: Pace | None = None
    fail: Fail | None = None
    lose_kv: bool = False
    requires_history: Texts = []
    requires_tool: Texts = []

    @property
    def all_calls(self) -> "list[list[Call]]":
        """Every call as its alternatives."""
        choices = ([] if self.call is None else [self.call]) + self.calls
        return [choice if isinstance(choice, list) else [choice] for choice in choices]


class Conversation(_Strict, frozen=True):
    """What is played when `match` is found in the newest user message."""

    match: str
    turns: Annotated[list[Turn], Meta(min_length=1)]
    requires_history: Texts = []
    requires_tool: Texts = []


class Script(_Strict, frozen=True):
    """A whole file. The first conversation that matches is played; without one, `otherwise` is said."""

    scripts: list[Conversation] = []
    pace: Pace = Pace()
    speed: Speed | None = None  # instead of every pace
    otherwise: str = "I have no script for this."


def load_script(path: Path | str) -> Script:
    """Read a YAML or JSON file; raises ScriptError."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ScriptError(f"{path}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise ScriptError(f"{path}: not UTF-8 text") from exc
    return parse_script(text, source=str(path), is_json=path.suffix == ".json")


def parse_script(text: str, *, source: str = "script", is_json: bool = False) -> Script:
    """A script from its text; raises ScriptError that begins with `source`."""
    try:
        data: Any = json.loads(text) if is_json else yaml.safe_load(text)
    except json.JSONDecodeError as exc:
        raise ScriptError(f"{source}:{exc.lineno}:{exc.colno}: not JSON: {exc.msg}") from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        place = "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
        raise ScriptError(f"{source}{place}: not YAML: {exc.problem or exc.context}") from exc
    except yaml.YAMLError as exc:
        raise ScriptError(f"{source}: not YAML: {' '.join(str(exc).split())}") from exc
    return script_of(data, source=source)


def script_of(data: object, *, source: str = "script") -> Script:
    """A script from plain objects; raises ScriptError that begins with `source`."""
    try:
        script = msgspec.convert({} if data is None else data, Script)
    except msgspec.ValidationError as exc:
        message, _, place = str(exc).partition(" - at `")
        raise ScriptError(f"{source}: {place.removesuffix('`') or '$'}: {message}") from exc
    for index, conversation in enumerate(script.scripts):
        _check(conversation, f"{source}: $.scripts[{index}]")
    return script


def _check(conversation: Conversation, place: str) -> None:
    try:
        re.compile(conversation.match)
    except re.error as exc:
        raise ScriptError(f"{place}.match: not a regular expression: {exc}") from exc
    last = len(conversation.turns) - 1
    for index, turn in enumerate(conversation.turns):
        if index < last and not turn.all_calls:
            raise ScriptError(f"{place}.turns[{index}]: without a call the turns behind it are never reached")
        if not (turn.text or turn.reasoning or turn.all_calls or turn.fail):
            raise ScriptError(f"{place}.turns[{index}]: the turn says nothing: give it text, reasoning, a call or fail")
        for call in (call for choice in turn.all_calls for call in choice):
            if call.input is not None and call.arguments is not None:
                raise ScriptError(f"{place}.turns[{index}]: '{call.name}' takes arguments or input, not both")
