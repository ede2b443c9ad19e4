"""The engines that the Engine suite runs over. A new engine is one more case."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.engine_play import view
from tests.support.generating import NO_TURN
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.engines.llama import LlamaEngine
from hotloop.engines.scripted import ScriptedEngine, script_of
from hotloop.formats import chatml
from hotloop.protocol.items import Message
from hotloop.seams.engine import Engine
from hotloop.seams.prompt import TurnView


@dataclass(frozen=True)
class EngineCase:
    """How to start one engine, and a turn it answers with at least 40 tokens when nothing stops it.

    `start` gets the path of a model file that it may use; `is_model`: what it samples depends on the tokens before.
    """

    name: str
    start: Callable[[Path], Awaitable[Engine]]
    turn: TurnView = NO_TURN
    is_model: bool = True
    prompt: tuple[int, ...] = (10, 20, 30, 40, 50)


async def _start_llama(model: Path) -> Engine:
    return await LlamaEngine.start(str(model), threads=1)


async def _start_scripted(_: Path) -> Engine:
    tokenizer = ToyTokenizer()
    script = script_of({"scripts": [{"match": "count", "turns": [{"text": " ".join(map(str, range(100)))}]}]})
    return ScriptedEngine(script, chatml(tokenizer, thinking=False), tokenizer, context_tokens=4096)


LLAMA = EngineCase("llama", _start_llama)
SCRIPTED = EngineCase("scripted", _start_scripted, turn=view([Message(role="user", content="count")]), is_model=False)

CASES = [LLAMA, SCRIPTED]
MODEL_CASES = [case for case in CASES if case.is_model]
