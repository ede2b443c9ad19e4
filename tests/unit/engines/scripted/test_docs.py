"""The snippets of docs/scripted.md work and do what the text says."""

import re
from pathlib import Path

from tests.support.engine_play import Played, play, view
from tests.support.toy_tokenizer import ToyTokenizer

from hotloop.engines.scripted import ScriptedEngine, parse_script
from hotloop.engines.scripted.script import Call, Conversation, Fail, Pace, Script, Turn
from hotloop.formats import chatml
from hotloop.protocol.items import FunctionCall, FunctionCallOutput, Item, Message
from hotloop.protocol.tools import decode_tools
from hotloop.seams.engine import EndReason
from hotloop.seams.prompt import PromptContext
from hotloop.session.principal import LOCAL
from hotloop.session.token_log import TokenView

PAGE = (Path(__file__).parents[4] / "docs" / "scripted.md").read_text(encoding="utf-8")
CONTEXT = PromptContext(tools=decode_tools(b'[{"type":"function","name":"shell"}]'))


def snippet(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


async def answer(engine: ScriptedEngine, tokenizer: ToyTokenizer, *items: Item) -> tuple[Played, str]:
    handle = engine.open(TokenView.of([]), parent=None, tenant=LOCAL)
    played = await play(handle, 0, [1], view(items, CONTEXT))
    return played, tokenizer.decode(played.ids)


async def test_the_example_plays_as_it_reads() -> None:
    tokenizer = ToyTokenizer()
    script = parse_script(snippet("yaml"))
    engine = ScriptedEngine(script, chatml(tokenizer, thinking=True), tokenizer)
    task = Message(role="user", content="Please fix the add function")
    call = FunctionCall(call_id="1", name="shell", arguments="{}")
    output = FunctionCallOutput(call_id="1", output="ok")
    assert "cat add.py" in (await answer(engine, tokenizer, task))[1]
    assert (await answer(engine, tokenizer, task, call, output))[1].count("<tool_call>") == 2
    done: list[Item] = [task, call, output, call, call, output, output]
    assert "now it adds" in (await answer(engine, tokenizer, *done))[1]
    recall = Message(role="user", content="what did I ask?")
    assert "fix add" in (await answer(engine, tokenizer, *done, recall))[1]
    assert (await answer(engine, tokenizer, recall))[0].reason is EndReason.UNAVAILABLE
    broken = Message(role="user", content="break down")
    failed, _ = await answer(engine, tokenizer, broken)
    assert (failed.reason, len(failed.ids)) == (EndReason.UNAVAILABLE, 3)
    assert "to its end" in (await answer(engine, tokenizer, broken))[1]
    assert "only know" in (await answer(engine, tokenizer, Message(role="user", content="hi")))[1]


async def test_the_python_snippet_runs() -> None:
    tokenizer = ToyTokenizer()
    names: dict[str, object] = {"format": chatml(tokenizer, thinking=False), "tokenizer": tokenizer}
    exec(snippet("python"), names)
    engine = names["engine"]
    assert isinstance(engine, ScriptedEngine)
    assert "Hello!" in (await answer(engine, tokenizer, Message(role="user", content="hello")))[1]


def test_every_key_is_in_the_reference() -> None:
    for struct in (Script, Conversation, Turn, Call, Fail, Pace):
        for key in struct.__struct_fields__:
            assert f"`{key}`" in PAGE, key
