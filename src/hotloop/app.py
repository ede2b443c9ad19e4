"""Wiring: the one place that knows every part by name."""

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from hotloop import __version__
from hotloop.config import ModelSettings, ServerSettings, Settings
from hotloop.constraints.validator import ChildValidator
from hotloop.decoding.reader import MessageReader
from hotloop.engines.scripted import ScriptedEngine, ScriptError, load_script
from hotloop.formats import GenericFormat, format_for_template, format_named
from hotloop.ledger.memory import MemoryLedger
from hotloop.models.token_model import ModelDefaults, TokenModel
from hotloop.protocol.connection import Limits
from hotloop.remote import FetchLimits, HttpContent
from hotloop.safety.key_file import KeyFileError, key_ring
from hotloop.safety.patterns import PatternPolicy
from hotloop.safety.sealing import KeyRing, new_key
from hotloop.seams.format import Format
from hotloop.seams.hosted_tools import ToolServers
from hotloop.seams.tokenizer import Tokenizer
from hotloop.server.asgi import build_asgi
from hotloop.server.auth import AccessPolicy
from hotloop.server.background import BackgroundLimits
from hotloop.server.connections import OpenConnections
from hotloop.server.responses_door import ResponsesDoor
from hotloop.server.runtime import DrainingServer, listen, uvicorn_config
from hotloop.server.served_connection import SocketSettings
from hotloop.server.unmask import slower_paths
from hotloop.server.websocket_raw import raw_path_fits, raw_protocol
from hotloop.session.chain_cache import ChainCache
from hotloop.session.model_context import ContextCache
from hotloop.storage.memory import MemoryStore
from hotloop.tiny import MODEL_NAME, model_path
from hotloop.tokenizers.fast import Reference, choose_for_gguf, encoded_by_json
from hotloop.tokenizers.tokenizer_json import JsonTokenizer
from hotloop.turns.record import RecordRing, TurnRecord
from hotloop.turns.runner import TurnRunner
from hotloop.turns.services import TurnServices

if TYPE_CHECKING:
    from hotloop.engines.llama import GgufTokenizer, LlamaEngine

logger = logging.getLogger(__name__)

GC_THRESHOLDS = (20_000, 20, 50)  # objects more than at the last look; looks at the young per look at the older
SWITCH_INTERVAL_S = (
    0.001  # a thread that renders a long text lets the loop go on after so long, not after CPython's 5 ms
)
SEAL_KEYS = "seal-keys"  # in the state folder
SCRIPTED_CONTEXT_TOKENS = 2**21  # it is no model: its context is as long as a bench needs


class StartError(Exception):
    """The server cannot start. One line that says why."""


@dataclass(frozen=True, slots=True)
class App:
    """A wired server without its socket."""

    asgi: Starlette
    websocket: type[asyncio.Protocol] | None  # for uvicorn's `ws=`; None: WebSockets go through ASGI
    services: TurnServices
    connections: OpenConnections
    reader: MessageReader


async def start_model(settings: ModelSettings) -> TokenModel:
    """The engine, its tokenizer and the format that fits. Raises StartError."""
    if settings.engine == "scripted" and settings.path is None and settings.tokenizer is not None:
        return _scripted_alone(settings, settings.tokenizer)
    # libllama is 100 MB of library: loaded by what serves a model, not by what only imports the application.
    from hotloop.engines.llama import GgufTokenizer, LlamaError

    path = settings.path or model_path()
    is_tiny = settings.path is None
    try:
        file = GgufTokenizer(str(path))
        tokenizer = _fastest(path, file) if settings.tokenizer is None else _given(settings.tokenizer, file)
        format_ = _format_of(str(path), file, tokenizer, settings.format)
        if settings.engine == "scripted":
            return _scripted(settings, format_, tokenizer)
        validator = ChildValidator(tokenizer.vocabulary_size)
        validator.start()  # beside the engine, and waited for: else the first turn with a grammar waits for it
        try:
            llama = await _start_llama(path, settings)
            await validator.ready()
        except BaseException:
            await validator.close()
            raise
    except (LlamaError, ScriptError) as error:
        raise StartError(str(error)) from error
    name = settings.name or (MODEL_NAME if is_tiny else file.model_name or path.stem)
    # The demonstration model was trained to be decoded greedily.
    defaults = ModelDefaults(temperature=0.0) if is_tiny else None
    return TokenModel(name, format=format_, tokenizer=tokenizer, engine=llama, defaults=defaults, validator=validator)


async def _start_llama(path: Path, settings: ModelSettings) -> "LlamaEngine":
    from hotloop.engines.llama import LlamaEngine

    return await LlamaEngine.start(
        str(path),
        context_tokens=settings.context_tokens or None,
        sequences=settings.sequences,
        parked_bytes=None if settings.parked_kv_bytes < 0 else settings.parked_kv_bytes,
        threads=settings.threads or None,
    )


def _scripted(settings: ModelSettings, format_: Format, tokenizer: Tokenizer) -> TokenModel:
    assert settings.script is not None
    context = settings.context_tokens or SCRIPTED_CONTEXT_TOKENS
    engine = ScriptedEngine(load_script(settings.script), format_, tokenizer, context_tokens=context)
    return TokenModel(settings.name or "scripted", format=format_, tokenizer=tokenizer, engine=engine)


def _scripted_alone(settings: ModelSettings, path: Path) -> TokenModel:
    """A vocabulary is all that a script needs of a model."""
    try:
        tokenizer = JsonTokenizer(path)
        return _scripted(settings, format_named(settings.format, tokenizer), tokenizer)
    except ValueError as error:
        raise StartError(str(error)) from error


def _fastest(path: Path, reference: Reference) -> Tokenizer:
    choice = choose_for_gguf(path, reference)
    if choice.reason:
        logger.info("tokenizer: %s (%s)", choice.encoder, choice.reason)
    else:
        logger.info("tokenizer: %s, equal to the reference on the self-test", choice.encoder)
    return choice.tokenizer


def _given(path: Path, reference: Reference) -> Tokenizer:
    try:
        return encoded_by_json(path, reference)
    except ValueError as error:
        raise StartError(str(error)) from error


def _format_of(path: str, file: "GgufTokenizer", tokenizer: Tokenizer, family: str) -> Format:
    template = file.chat_template
    try:
        if template:
            format_ = format_for_template(
                template,
                tokenizer,
                family=family or None,
                variables=file.template_variables,
                stop_tokens=file.stop_tokens,
                today=date.today(),
            )
        elif family:
            format_ = format_named(family, tokenizer)
        else:
            raise StartError(
                f"{path}: the file has no chat template, so nothing says how to write a conversation for it; "
                "--format NAME names the family it belongs to"
            )
    except ValueError as error:  # an unknown family, a template that fails, a vocabulary that does not fit
        raise StartError(f"{path}: {error}") from error
    if isinstance(format_, GenericFormat):
        logger.info(
            "no family has this chat template: the generic format writes it with %s, rendering the whole conversation",
            "minijinja" if format_.is_fast else "jinja2",
        )
    else:
        logger.info("conversations are written by the %s format", format_.name)
    return format_


def build_app(model: TokenModel, settings: ServerSettings, reader: MessageReader | None = None) -> App:
    """The application around a started model; its shutdown closes the model, and the reader: its own where none is given."""
    remembers = settings.caches == "on"
    records = RecordRing(tell=_spans() if settings.traces == "on" else None)
    reader = reader or MessageReader(settings.max_message_bytes)
    reader.note = records.note
    store = MemoryStore()
    services = TurnServices(
        models={model.name: model},
        store=store,
        ledger=MemoryLedger(),
        classifier=PatternPolicy(),
        chains=ChainCache(),
        contexts=ContextCache() if remembers else ContextCache(0),
        records=records,
        sealer=_sealer(settings),
        turn_timeout_s=settings.turn_timeout_s,
        reasoning_events=settings.reasoning_events,
        surveyor=reader,
        remote=_remote(settings),
        tool_servers=_tool_servers(settings),
        remembers=remembers,
    )
    connections = OpenConnections()

    async def shut_down() -> None:
        services.prefixes.clear()
        await reader.close()
        if services.tool_servers is not None:
            await services.tool_servers.close()
        await model.close()
        await services.store.close()

    runner = TurnRunner(services)
    policy = AccessPolicy(settings.api_key, frozenset(settings.allow_origins))
    socket_settings = SocketSettings(
        Limits(lifetime_s=settings.connection_lifetime_s), settings.max_pending_bytes, settings.max_delay_s
    )
    asgi = build_asgi(
        runner,
        policy,
        socket_settings,
        connections,
        reader,
        {"stored": store},
        background_limits=BackgroundLimits(settings.background_running, settings.background_waiting),
        max_body_bytes=settings.max_message_bytes,
        started_at=int(time.time()),
        version=__version__,
        on_shutdown=shut_down,
    )
    door = ResponsesDoor(runner, policy, socket_settings, connections, reader)
    return App(asgi, _websocket(door, settings), services, connections, reader)


def _tool_servers(settings: ServerSettings) -> ToolServers | None:
    """The MCP servers of the file that was named. Raises StartError."""
    if settings.tool_servers is None:
        return None
    # The package is an extra, and takes a second to load.
    from hotloop.tool_servers.configuration import ToolSettingsError, load_tool_servers
    from hotloop.tool_servers.servers import McpServers

    try:
        return McpServers(load_tool_servers(settings.tool_servers, os.environ))
    except ToolSettingsError as error:
        raise StartError(str(error)) from error


def _sealer(settings: ServerSettings) -> KeyRing:
    """The keys of the file that was named, of the one in the state folder, or of this process alone. Raises StartError."""
    try:
        if settings.seal_keys is not None:
            return key_ring(settings.seal_keys)
    except KeyFileError as error:
        raise StartError(str(error)) from error
    if settings.state_folder is not None:
        try:
            return key_ring(settings.state_folder / SEAL_KEYS)
        except KeyFileError as error:
            logger.warning("%s; what is sealed now cannot be opened after a restart", error)
    return KeyRing([new_key()])


def _remote(settings: ServerSettings) -> HttpContent | None:
    if not settings.remote_sources:
        return None
    logging.getLogger("httpcore").setLevel(logging.WARNING)  # its debug lines hold URLs and headers
    limits = FetchLimits(max_bytes=settings.remote_max_bytes, total_s=settings.remote_timeout_s)
    return HttpContent(settings.remote_sources, limits)


def _websocket(door: ResponsesDoor, settings: ServerSettings) -> type[asyncio.Protocol] | None:
    if settings.websocket == "asgi" or not raw_path_fits():
        return None
    if slower_paths():
        logger.warning("websockets has no compiled extension here: what its clients send is unmasked with numpy")
    return raw_protocol(
        door,
        max_pending_bytes=settings.max_pending_bytes,
        slow_reader_s=settings.slow_reader_s,
        max_delay_s=settings.max_delay_s,
    )


def _spans() -> Callable[[TurnRecord], None]:
    from hotloop.turns.spans import TurnSpans  # OpenTelemetry is an extra

    return TurnSpans().add


async def _start(settings: Settings) -> tuple[TokenModel, App]:
    """All that a server needs but its socket; nothing is left of it where it raises."""
    async with AsyncExitStack() as undo:
        reader = MessageReader(settings.server.max_message_bytes)
        undo.push_async_callback(reader.close)
        reader.start()  # beside the model
        model = await start_model(settings.model)
        undo.push_async_callback(model.close)
        app = build_app(model, settings.server, reader)
        await reader.ready()
        undo.pop_all()
    return model, app


async def run_server(settings: Settings, announce: Callable[[str, str], None]) -> None:
    """Serve until a signal. `announce` is told the model's name and the base URL once requests are accepted."""
    server_settings = settings.server
    try:
        listener = listen(server_settings.host, server_settings.port)
    except OSError as error:
        raise StartError(f"cannot listen on {server_settings.host}:{server_settings.port}: {error.strerror}") from error
    try:
        model, app = await _start(settings)
        port = listener.getsockname()[1]
        config = uvicorn_config(
            app.asgi,
            websocket=app.websocket,
            host=server_settings.host,
            port=port,
            max_message_bytes=server_settings.max_message_bytes,
            slow_reader_s=server_settings.slow_reader_s,
            log_level="warning",
        )
        server = DrainingServer(config, app.connections, server_settings.drain_timeout_s)
        listener.listen(2048)
        # What start-up made stays: the collector need not walk it again (4 % of a turn's CPU, docs/measurements.md).
        # Turns leave no cycles behind, and most of what they allocate is kept: looking for garbage often finds none.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        host = f"[{server_settings.host}]" if ":" in server_settings.host else server_settings.host
        announce(model.name, f"http://{host}:{port}/v1")
        await server.serve(sockets=[listener])
    finally:
        listener.close()
