"""What a server has ready when it says that it is: nobody's first turn waits for a process to start."""

import gc
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.support.random_gguf import write_random_gguf
from tests.support.toy_engine import ToyEngine

from hotloop.app import StartError, run_server, start_model
from hotloop.config import ModelSettings, ServerSettings, Settings
from hotloop.constraints.validator import ChildValidator
from hotloop.decoding.reader import MessageReader

RULE = 'start: "a"'


@pytest.fixture
def process_settings() -> Generator[None]:
    """What a server sets for its process is put back."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    sys.setswitchinterval(interval)


@pytest.fixture
def scripted(tmp_path: Path) -> ModelSettings:
    script = tmp_path / "script.yaml"
    script.write_text("scripts:\n  - match: hi\n    turns:\n      - text: hello\n")
    return ModelSettings(engine="scripted", script=script)


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[MessageReader]:
    """Every one that a server makes."""
    made: list[MessageReader] = []

    class Kept(MessageReader):
        def __init__(self, max_message_bytes: int) -> None:
            super().__init__(max_message_bytes)
            made.append(self)

    monkeypatch.setattr("hotloop.app.MessageReader", Kept)
    return made


async def test_what_judges_grammars_is_ready_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(path: Path, settings: ModelSettings) -> ToyEngine:
        return ToyEngine()

    monkeypatch.setattr("hotloop.app._start_llama", at_once)
    model = await start_model(ModelSettings(path=write_random_gguf(tmp_path / "model.gguf"), threads=1))
    try:
        validator = model.validator
        assert isinstance(validator, ChildValidator)
        assert len(validator.pids) == 1
        assert await validator.check([RULE]) is None
        assert validator.children_started == 1
    finally:
        await model.close()


async def test_what_reads_long_messages_is_ready_when_the_server_says_where_it_is(
    scripted: ModelSettings, readers: list[MessageReader], monkeypatch: pytest.MonkeyPatch, process_settings: None
) -> None:
    async def serve(self: uvicorn.Server, sockets: Any) -> None:
        app: Any = self.config.app
        async with app.router.lifespan_context(app):
            pass

    monkeypatch.setattr("hotloop.app.DrainingServer.serve", serve)
    found: list[int] = []
    await run_server(Settings(ServerSettings(port=0), scripted), lambda _name, _url: found.extend(readers[0].pids))
    assert len(found) == 1
    assert len(readers) == 1, "it is the one that serves"
    assert readers[0].pids == []


async def test_a_server_that_cannot_start_leaves_nothing_that_does(
    scripted: ModelSettings, readers: list[MessageReader], tmp_path: Path
) -> None:
    settings = ServerSettings(port=0, tool_servers=tmp_path / "nowhere.json")
    with pytest.raises(StartError, match="nowhere"):
        await run_server(Settings(settings, scripted), lambda _name, _url: None)
    await readers[0].ready()
    assert readers[0].pids == []
