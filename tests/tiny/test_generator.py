"""The training transcripts show what really happens."""

import json
import random
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tests.tiny.workshop import tool

from hotloop.client.edit import EditRefused, apply_edit

building, chatml, lessons, repairs, unseen, words = (
    tool(name) for name in ("building", "chatml", "lessons", "repairs", "unseen", "words")
)
SAMPLE = range(12)
MANY = range(300)


def without_timings(text: str) -> str:
    return re.sub(r"[0-9.]+s$", "_s", text, flags=re.MULTILINE)


def call_in(message: Any) -> dict[str, Any] | None:
    """The call that an assistant message makes."""
    if message.role != "assistant" or not message.text.startswith("<tool_call>"):
        return None
    call: dict[str, Any] = json.loads(message.text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    return call


def carry_out(call: dict[str, Any], folder: Path) -> str:
    arguments = call["arguments"]
    if call["name"] == "edit":
        try:
            return apply_edit(folder, **arguments)
        except EditRefused as refused:
            return str(refused)
    done = subprocess.run(
        ["bash", "-c", arguments["command"]],
        cwd=folder,
        env=unseen.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output: str = tool("agent_contract").contract.shell_result(done.stdout, done.returncode)
    return output


def repository_and_transcript(number: int, *, held_out: bool) -> tuple[Any, dict[str, str], list[Any]]:
    """A repository, its files before the repair, and the repair's messages."""
    rng = random.Random(f"transcript-{number}")
    repository = building.build(rng, held_out=held_out, ambiguous=number % 4 == 0)
    files = repository.files()
    return repository, files, list(repairs.conversation(rng, repository).messages)


@pytest.mark.parametrize("number", [*range(5), *(pytest.param(one, marks=pytest.mark.long) for one in range(5, 40))])
def test_every_tool_result_is_what_the_tool_prints(number: int, tmp_path: Path) -> None:
    repository, files, messages = repository_and_transcript(number, held_out=False)
    for path, text in files.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    assert unseen.tests_pass(repository, tmp_path) == (not repository.mends)
    for message, answer in pairwise(messages):
        call = call_in(message)
        if call is not None:
            assert without_timings(carry_out(call, tmp_path)) == without_timings(answer.text)
    gave_up = any(message.text.startswith("I could not") for message in messages)
    assert unseen.tests_pass(repository, tmp_path) is not gave_up


def test_names_and_mixes_of_evaluation_are_never_trained_on() -> None:
    for number in MANY:
        for held_out in (False, True):
            repository = building.build(random.Random(number), held_out=held_out)
            for module in repository.modules:
                kinds = [function.kind for function in module.functions]
                assert len(kinds) == 1 or building.kinds_held_out(kinds) is held_out
                assert words.is_held_out(module.path.rpartition("/")[2].removesuffix(".py")) is held_out


def test_the_same_seed_and_number_give_the_same_lesson() -> None:
    assert lessons.lesson(7, 3, 0.5) == lessons.lesson(7, 3, 0.5)
    assert lessons.lesson(7, 3, 0.5) != lessons.lesson(8, 3, 0.5)


def test_the_mix_has_every_kind_of_transcript() -> None:
    missing = {
        "python3 -m unittest", "python3 -m pytest", "quote more lines", "old text not found", "SyntaxError", "grep -rn",
        "All tests pass already", "I could not repair", "demonstration model", "Fixed ", "I found no tests", " and ",
    }  # fmt: skip
    for number in range(1500):
        text = chatml.render(lessons.lesson(1, number, 1.0))
        missing = {part for part in missing if part not in text}
        if not missing:
            return
    pytest.fail(f"no transcript has {missing}")


def test_hundreds_of_different_prompts_are_answered_by_words() -> None:
    prompts = {tool("smalltalk").prompt(random.Random(number)) for number in range(2000)}
    assert len(prompts) > 1000


def test_only_slips_are_kept_from_being_learnt() -> None:
    for number in MANY:
        _, _, messages = repository_and_transcript(number, held_out=False)
        for message, answer in pairwise(messages):
            if not message.learn:
                assert call_in(message) is not None
                assert answer.text.startswith(("edited ", "error: old text not found", "grep: ", "[exit code 1]"))


def test_the_exported_template_writes_what_was_trained() -> None:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string(tool("template").TEMPLATE)
    contract = tool("agent_contract").contract
    functions = [
        {"type": "function", "function": {key: one[key] for key in ("name", "description", "parameters")}}
        for one in contract.TOOLS
    ]
    for number in SAMPLE:
        _, _, messages = repository_and_transcript(number, held_out=False)
        rendered = template.render(
            messages=[{"role": "system", "content": contract.INSTRUCTIONS}, *map(as_openai, messages)], tools=functions
        )
        assert rendered == repairs.PREAMBLE + "".join(
            chatml.render(chatml.Conversation("", (message,))) for message in messages
        )


def as_openai(message: Any) -> dict[str, Any]:
    call = call_in(message)
    if call is None:
        return {"role": message.role, "content": message.text}
    return {"role": "assistant", "content": "", "tool_calls": [{"function": call}]}
