"""Which format a server takes for a model file, and what it says when there is none."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.live_server import final_response, live_server, open_socket, output_text
from tests.support.random_gguf import TEMPLATE, write_random_gguf

from hotloop.app import StartError, start_model
from hotloop.config import ConfigError, ModelSettings, load_settings
from hotloop.tiny import model_path
from hotloop.tokenizers.gguf_as_json import write_as_json


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The scripted engine needs no weights, only vocabulary and template."""
    path = tmp_path / "script.yaml"
    path.write_text("scripts:\n  - match: hi\n    turns:\n      - text: hello\n")
    return path


def settings(tmp_path: Path, script: Path, template: str, format: str = "") -> ModelSettings:
    model = write_random_gguf(tmp_path / "model.gguf", template=template)
    return ModelSettings(engine="scripted", path=model, script=script, format=format)


async def test_a_template_of_no_family_is_written_by_the_generic_format(
    tmp_path: Path, script: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "hotloop.app"):
        model = await start_model(settings(tmp_path, script, TEMPLATE))
    assert model.format.name == "generic"
    assert "the generic format writes it with minijinja" in caplog.text
    assert model.tokenizer.special("<|im_end|>") in model.format.stop_tokens
    await model.close()


async def test_a_file_without_a_template_needs_a_family(tmp_path: Path, script: Path) -> None:
    with pytest.raises(StartError, match=r"no chat template.*--format NAME"):
        await start_model(settings(tmp_path, script, ""))
    model = await start_model(settings(tmp_path, script, "", "qwen3"))
    assert model.format.name == "qwen3"
    await model.close()


async def test_a_family_may_be_forced(tmp_path: Path, script: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "hotloop.app"):
        model = await start_model(settings(tmp_path, script, TEMPLATE, "chatml"))
    assert model.format.name == "chatml"
    assert "written by the chatml format" in caplog.text
    await model.close()


@pytest.mark.parametrize(
    ("template", "format", "said"),
    [
        ("{{ raise_exception('this model cannot chat') }}", "", "cannot write a question.*: this model cannot chat"),
        ("{{ messages[0].content.nothing.at.all }}", "", "cannot write a question and its answer$"),
        ("{% for m in messages %}{{ m.content }}", "", "no valid Jinja"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "", "leaves out what the user"),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", "gpt", "unknown format 'gpt'; known are .*generic"),
        ("", "generic", "needs the chat template"),
    ],
)
async def test_what_cannot_be_used_is_refused_with_the_reason(
    tmp_path: Path, script: Path, template: str, format: str, said: str
) -> None:
    with pytest.raises(StartError, match=said) as refused:
        await start_model(settings(tmp_path, script, template, format))
    assert "model.gguf" in str(refused.value) and "\n" not in str(refused.value)


HERMES = (
    "{% if tools %}<|im_start|>system {% for t in tools %}{{ t | tojson }}{% endfor %}<|im_end|>{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }} {{ m.content }}{% for c in m.tool_calls or [] %}"
    '<tool_call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}</tool_call>'
    "{% endfor %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
TOOLS: list[dict[str, Any]] = [{"type": "function", "name": "ls", "parameters": {"type": "object", "properties": {}}}]


async def test_a_tool_loop_runs_on_a_template_that_no_family_has(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(
        "scripts:\n  - match: files\n    turns:\n"
        "      - call: {name: ls, arguments: {path: src}}\n      - text: Two files.\n"
    )
    model = await start_model(replace(settings(tmp_path, script, HERMES), name="test"))
    async with live_server(model) as server, open_socket(server) as socket:
        first = final_response(await socket.turn(input="Which files?", tools=TOOLS, store=False))
        (call,) = first["output"]
        assert (call["type"], call["name"], call["arguments"]) == ("function_call", "ls", '{"path": "src"}')
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "a.py b.py"}
        second = await socket.turn(input=[output], previous_response_id=first["id"], tools=TOOLS, store=False)
        assert output_text(second) == "Two files."
        usage = final_response(second)["usage"]
        assert usage["input_tokens_details"]["cached_tokens"] >= first["usage"]["input_tokens"]


async def test_tools_for_a_template_without_a_place_for_them_are_refused(tmp_path: Path, script: Path) -> None:
    model = await start_model(replace(settings(tmp_path, script, TEMPLATE), name="test"))
    async with live_server(model) as server, open_socket(server) as socket:
        error = (await socket.turn(input="hi", tools=TOOLS, store=False))[-1]
        assert error["response"]["error"]["code"] == "unsupported_value"
        assert output_text(await socket.turn(input="hi", store=False)) == "hello"


async def test_a_tokenizer_json_encodes_if_it_gives_the_same_ids_and_else_is_refused(
    tmp_path: Path, script: Path
) -> None:
    write_as_json(model_path(), tmp_path / "tokenizer.json")
    given = ModelSettings(engine="scripted", path=model_path(), tokenizer=tmp_path / "tokenizer.json", script=script)
    model = await start_model(given)
    plain = await start_model(replace(given, tokenizer=None))
    assert model.tokenizer.encode("hello there, all of you: 42") == plain.tokenizer.encode(
        "hello there, all of you: 42"
    )
    await model.close()
    await plain.close()
    for content, said in (("{}", "not a tokenizer.json"), (None, "not a tokenizer.json: .*No such file")):
        path = tmp_path / "other.json"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_text(content)
        with pytest.raises(StartError, match=said):
            await start_model(replace(given, tokenizer=path))


async def test_a_script_needs_no_model_file_beside_a_tokenizer_json(tmp_path: Path, script: Path) -> None:
    write_as_json(model_path(), tmp_path / "tokenizer.json")
    given = ModelSettings(engine="scripted", tokenizer=tmp_path / "tokenizer.json", format="chatml", script=script)
    model = await start_model(given)
    assert (model.format.name, model.tokenizer.special("<|im_end|>") is None) == ("chatml", False)
    await model.close()
    with pytest.raises(StartError, match="unknown format 'no'"):
        await start_model(replace(given, format="no"))
    with pytest.raises(ConfigError, match="needs --format NAME"):
        load_settings(
            {}, {("model", "engine"): "scripted", ("model", "tokenizer"): Path("t.json"), ("model", "script"): script}
        )
