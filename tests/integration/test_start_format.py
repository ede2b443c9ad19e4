"""Which format a server takes for a model file, and what it says when there is none."""

import logging
from pathlib import Path

import pytest
from tests.support.random_gguf import TEMPLATE, write_random_gguf

from hotloop.app import StartError, start_model
from hotloop.config import ModelSettings


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
