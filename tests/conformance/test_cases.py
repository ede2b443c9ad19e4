"""All 17 compliance cases of Open Responses, one by one and all at once as its runner plays them (docs/protocol.md §13).

Raw reasoning goes by the names of Open Responses here: `reasoning_events = open_responses`.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.cases import CASES, PNG, Target, post, said
from tests.support.live_server import live_server
from tests.support.open_responses import check_error_body
from tests.support.scripted_model import scripted_model
from tests.support.served_command import served

from hotloop.config import ServerSettings

SCRIPTS = Path(__file__).parent / "scripts.json"
OPEN_RESPONSES = {"HOTLOOP_REASONING_EVENTS": "open_responses"}

# The formats of hotloop write text; `test_an_image_is_refused_with_a_clear_error` shows what such a model answers.
TAKES_NO_IMAGES = {"image-input": "the models served here take text only"}


def test_there_are_seventeen() -> None:
    assert len(CASES) == 17


@pytest.mark.parametrize("path", ["raw", "asgi"])
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            name,
            marks=[pytest.mark.xfail(reason=TAKES_NO_IMAGES[name], strict=True)] if name in TAKES_NO_IMAGES else [],
        )
        for name in CASES
    ],
)
async def test_the_case(case: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.live_server.WEBSOCKET", path)
    async with live_server(_thinking_model(), ServerSettings(port=0, reasoning_events="open_responses")) as server:
        await CASES[case](Target(server.url, "test"))


@pytest.mark.parametrize(
    "arguments", [["--engine", "scripted", "--script", str(SCRIPTS)], []], ids=["scripted", "tiny model"]
)
async def test_all_at_once_against_hotloop_serve(arguments: list[str]) -> None:
    with served(arguments, OPEN_RESPONSES) as server:
        target = Target(server.url, server.model)
        outcomes = await asyncio.gather(*(case(target) for case in CASES.values()), return_exceptions=True)
    failed = {name: outcome for name, outcome in zip(CASES, outcomes, strict=True) if outcome is not None}
    assert set(failed) == set(TAKES_NO_IMAGES), failed


async def test_an_image_is_refused_with_a_clear_error() -> None:
    with served([], OPEN_RESPONSES) as server:
        body = {"model": server.model, "input": [said("user", [{"type": "input_image", "image_url": PNG}])]}
        answer = await post(Target(server.url, server.model), "/responses", body)
    check_error_body(answer.json())
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert (error["code"], error["param"]) == ("unsupported_value", "input[0].content[0]")
    assert "text only" in error["message"]


def _thinking_model() -> Any:
    """One that reasons aloud before it answers."""
    weather = {"call": {"name": "get_weather", "arguments": {"location": "San Francisco"}}}
    return scripted_model(
        [
            {"match": "weather", "turns": [{"reasoning": "They want the weather.", **weather}]},
            {"match": ".", "turns": [{"reasoning": "Something short.", "text": "Hello there, Alice."}]},
        ]
    )
