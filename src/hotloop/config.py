"""Every setting of the server, in one frozen place. Defaults, then `HOTLOOP_*` environment, then flags.

Parts receive values, never these objects.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from hotloop.protocol.response import ReasoningEvents
from hotloop.remote import Source, SourceProblem
from hotloop.server.auth import is_loopback

MIB = 2**20
LOG_LEVELS = ("debug", "info", "warning", "error")


class ConfigError(Exception):
    """A setting is unknown, unparsable or contradicts another. The message names it; one line."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The listening side."""

    host: str = "127.0.0.1"  # other than loopback needs an API key
    port: int = 8000  # 0: any free port
    api_key: str = ""  # empty: no key is asked for
    allow_origins: tuple[str, ...] = ()  # browser origins allowed besides loopback ones
    max_message_bytes: int = 64 * MIB  # of one WebSocket message or HTTP body
    max_pending_bytes: int = 16 * MIB  # unsent output of one connection before it is closed
    max_delay_s: float = (
        0.0  # an event may wait so long for others to leave with, in one write; 0: until the loop's tick ends
    )
    slow_reader_s: float = 60.0  # a client that reads nothing for this long is disconnected
    caches: str = "on"  # off: every turn is rendered in full, to measure what remembering saves
    websocket: str = "raw"  # raw: hotloop's own frames; asgi: through the ASGI server's
    drain_timeout_s: float = 30.0  # running turns may finish this long after SIGTERM
    connection_lifetime_s: float = 3600.0
    turn_timeout_s: float = 3600.0
    background_running: int = 8  # background responses at work at once
    background_waiting: int = 64  # and waiting; one more is refused
    reasoning_events: ReasoningEvents = "openai"  # names of the events of raw reasoning: openai or open_responses
    seal_keys: Path | None = None  # keys for sealed content; shared by all processes, made if it is not there
    state_folder: Path | None = None  # where the key file is if `seal_keys` names none; None: the keys live in memory
    # Where URLs in requests may be fetched from: hosts such as `files.example.org` (https), `*.example.org:8443`,
    # `http://example.org`, or `*` for any; only at public addresses. Empty: no URL is fetched.
    remote_sources: tuple[Source, ...] = ()
    remote_max_bytes: int = 4 * MIB  # of what one URL names
    remote_timeout_s: float = 10.0  # for one URL, redirects and all
    tool_servers: Path | None = None  # file that names MCP servers (docs/hosted-tools.md); None: there are none
    log_level: str = "info"
    traces: str = "off"  # on: an OpenTelemetry span per turn, to where the environment sends them


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What runs behind the API."""

    engine: str = "llama"  # llama or scripted
    path: Path | None = None  # GGUF file; None: the tiny demonstration model
    name: str = ""  # name clients ask for; empty: from the file
    tokenizer: Path | None = (
        None  # tokenizer.json that encodes for the file's own; scripted, no `path`: instead of a file
    )
    format: str = ""  # family that writes conversations; empty: what the file's chat template asks for
    script: Path | None = None  # for the scripted engine
    context_tokens: int = 0  # 0: the model's own
    sequences: int = 16  # chains whose KV the engine holds at once
    parked_kv_bytes: int = (
        -1
    )  # host memory for KV of chains that idle; -1: 1/8 of the machine's, at most 8 GiB; 0: none
    threads: int = 0  # 0: physical cores - 1, at least 1


@dataclass(frozen=True, slots=True)
class Settings:
    """All of it."""

    server: ServerSettings = field(default_factory=ServerSettings)
    model: ModelSettings = field(default_factory=ModelSettings)


_ENVIRONMENT: dict[str, tuple[str, str]] = {
    "HOTLOOP_HOST": ("server", "host"),
    "HOTLOOP_PORT": ("server", "port"),
    "HOTLOOP_API_KEY": ("server", "api_key"),
    "HOTLOOP_ALLOW_ORIGINS": ("server", "allow_origins"),
    "HOTLOOP_MAX_MESSAGE_BYTES": ("server", "max_message_bytes"),
    "HOTLOOP_MAX_PENDING_BYTES": ("server", "max_pending_bytes"),
    "HOTLOOP_MAX_DELAY_S": ("server", "max_delay_s"),
    "HOTLOOP_SLOW_READER_S": ("server", "slow_reader_s"),
    "HOTLOOP_CACHES": ("server", "caches"),
    "HOTLOOP_WEBSOCKET": ("server", "websocket"),
    "HOTLOOP_DRAIN_TIMEOUT_S": ("server", "drain_timeout_s"),
    "HOTLOOP_CONNECTION_LIFETIME_S": ("server", "connection_lifetime_s"),
    "HOTLOOP_TURN_TIMEOUT_S": ("server", "turn_timeout_s"),
    "HOTLOOP_BACKGROUND_RUNNING": ("server", "background_running"),
    "HOTLOOP_BACKGROUND_WAITING": ("server", "background_waiting"),
    "HOTLOOP_REASONING_EVENTS": ("server", "reasoning_events"),
    "HOTLOOP_SEAL_KEYS": ("server", "seal_keys"),
    "HOTLOOP_STATE_FOLDER": ("server", "state_folder"),
    "HOTLOOP_REMOTE_SOURCES": ("server", "remote_sources"),
    "HOTLOOP_REMOTE_MAX_BYTES": ("server", "remote_max_bytes"),
    "HOTLOOP_REMOTE_TIMEOUT_S": ("server", "remote_timeout_s"),
    "HOTLOOP_TOOL_SERVERS": ("server", "tool_servers"),
    "HOTLOOP_LOG_LEVEL": ("server", "log_level"),
    "HOTLOOP_TRACES": ("server", "traces"),
    "HOTLOOP_ENGINE": ("model", "engine"),
    "HOTLOOP_MODEL": ("model", "path"),
    "HOTLOOP_MODEL_NAME": ("model", "name"),
    "HOTLOOP_TOKENIZER": ("model", "tokenizer"),
    "HOTLOOP_FORMAT": ("model", "format"),
    "HOTLOOP_SCRIPT": ("model", "script"),
    "HOTLOOP_CONTEXT_TOKENS": ("model", "context_tokens"),
    "HOTLOOP_SEQUENCES": ("model", "sequences"),
    "HOTLOOP_PARKED_KV_BYTES": ("model", "parked_kv_bytes"),
    "HOTLOOP_THREADS": ("model", "threads"),
}
# Read by the client side, not by the server.
_CLIENT_ONLY = frozenset({"HOTLOOP_URL"})


def load_settings(environment: Mapping[str, str], flags: Mapping[tuple[str, str], Any]) -> Settings:
    """Defaults, then environment, then flags that are not None. Raises ConfigError naming the key."""
    chosen: dict[tuple[str, str], Any] = {("server", "state_folder"): _state_folder(environment)}
    for key, text in environment.items():
        if not key.startswith("HOTLOOP_") or key in _CLIENT_ONLY:
            continue
        place = _ENVIRONMENT.get(key)
        if place is None:
            raise ConfigError(f"unknown setting {key}; known are {', '.join(sorted(_ENVIRONMENT))}")
        chosen[place] = _parse(key, place, text)
    chosen.update({place: value for place, value in flags.items() if value is not None})
    settings = Settings(
        server=replace(
            ServerSettings(), **{name: value for (group, name), value in chosen.items() if group == "server"}
        ),
        model=replace(ModelSettings(), **{name: value for (group, name), value in chosen.items() if group == "model"}),
    )
    _check(settings)
    return settings


def _state_folder(environment: Mapping[str, str]) -> Path | None:
    """Where the XDG base directory specification puts what a program keeps."""
    state, home = environment.get("XDG_STATE_HOME"), environment.get("HOME")
    if state:
        return Path(state) / "hotloop"
    return Path(home) / ".local/state/hotloop" if home else None


def _parse(key: str, place: tuple[str, str], text: str) -> Any:
    group, name = place
    owner = ServerSettings if group == "server" else ModelSettings
    kind = next(entry.type for entry in fields(owner) if entry.name == name)
    try:
        if kind is int:
            return int(text)
        if kind is float:
            return float(text)
        if name in ("path", "tokenizer", "script", "seal_keys", "state_folder", "tool_servers"):
            return Path(text)
        if name == "allow_origins":
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if name == "remote_sources":
            return tuple(Source.parse(part) for part in text.split(",") if part.strip())
    except SourceProblem as error:
        raise ConfigError(f"{key}: {error}") from None
    except ValueError:
        raise ConfigError(f"{key}={text!r} is not a number") from None
    return text


def _check(settings: Settings) -> None:
    server, model = settings.server, settings.model
    if not is_loopback(server.host) and not server.api_key:
        raise ConfigError(f"--host {server.host} would serve without a key; set HOTLOOP_API_KEY or bind to 127.0.0.1")
    if server.log_level not in LOG_LEVELS:
        raise ConfigError(f"unknown log_level {server.log_level!r}; known are {', '.join(LOG_LEVELS)}")
    if server.websocket not in ("raw", "asgi"):
        raise ConfigError(f"unknown websocket {server.websocket!r}; known are raw, asgi")
    if server.traces not in ("on", "off"):
        raise ConfigError(f"unknown traces {server.traces!r}; known are on, off")
    if server.traces == "on" and find_spec("opentelemetry") is None:
        raise ConfigError("HOTLOOP_TRACES=on needs OpenTelemetry: install hotloop[otel]")
    if server.tool_servers is not None and find_spec("mcp") is None:
        raise ConfigError("tool servers need the MCP package: install hotloop[mcp]")
    if server.caches not in ("on", "off"):
        raise ConfigError(f"unknown caches {server.caches!r}; known are on, off")
    if server.reasoning_events not in get_args(ReasoningEvents):
        names = ", ".join(get_args(ReasoningEvents))
        raise ConfigError(f"unknown reasoning_events {server.reasoning_events!r}; known are {names}")
    if not 0 <= server.port <= 65535:
        raise ConfigError(f"port {server.port} is not between 0 and 65535")
    if model.engine not in ("llama", "scripted"):
        raise ConfigError(f"unknown engine {model.engine!r}; known are llama, scripted")
    if model.engine == "scripted" and model.script is None:
        raise ConfigError("--engine scripted needs --script FILE")
    if model.engine != "scripted" and model.script is not None:
        raise ConfigError("--script needs --engine scripted")
    if model.engine == "scripted" and model.tokenizer is not None and model.path is None and not model.format:
        raise ConfigError("--tokenizer without --model needs --format NAME: a vocabulary says nothing of conversations")
    if not 1 <= model.sequences <= 255:  # libllama has 256 (n_seq_max), of which one is for copying
        raise ConfigError(f"{model.sequences} sequences: must be between 1 and 255")
    if not -1 <= model.parked_kv_bytes <= 1 << 40:
        raise ConfigError("parked_kv_bytes must be -1 (the default), 0 (none), or bytes up to 1 TiB")
    for name in (
        "max_message_bytes",
        "max_pending_bytes",
        "slow_reader_s",
        "drain_timeout_s",
        "connection_lifetime_s",
        "turn_timeout_s",
        "background_running",
        "remote_max_bytes",
        "remote_timeout_s",
    ):
        if not 0 < getattr(server, name) < math.inf:
            raise ConfigError(f"{name} must be positive")
    if not 0 <= server.max_delay_s <= 1:
        raise ConfigError("max_delay_s must be between 0 and 1")
    if server.background_waiting < 0:
        raise ConfigError("background_waiting must not be negative")
    for name in ("context_tokens", "threads"):
        if getattr(model, name) < 0:
            raise ConfigError(f"{name} must not be negative")
