"""What other clients must be told to use a server: their configuration files as text. Pure.

A file that exists is merged into: everything else in it stays, to the letter where the language has comments.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

NAME = "hotloop"  # of the provider and of Codex's profile
KEY_VARIABLE = "HOTLOOP_API_KEY"

_BEGIN = "# hotloop: begin"
_END = "# hotloop: end"


class CannotMerge(Exception):
    """The file cannot take the configuration. One line: what is in the way."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server and the model to ask it for. `needs_key`: the client reads the key from HOTLOOP_API_KEY."""

    url: str
    model: str
    needs_key: bool = False


def codex_profile(endpoint: Endpoint) -> str:
    """A profile of the Codex CLI, as lines of TOML that may stand in front of any others."""
    provider: dict[str, str | bool] = {
        "name": NAME,
        "base_url": endpoint.url,
        "wire_api": "responses",
        "supports_websockets": True,
    }
    if endpoint.needs_key:
        provider["env_key"] = KEY_VARIABLE
    # One line: a table of its own would take in the keys of the user's that follow.
    inline = ", ".join(f"{key} = {_json(value)}" for key, value in provider.items())
    return f"model = {_json(endpoint.model)}\nmodel_provider = {_json(NAME)}\nmodel_providers.{NAME} = {{ {inline} }}\n"


def merge_codex(old: str, endpoint: Endpoint) -> str:
    """`old`, a file of Codex, with the profile in it, in place of an earlier one. Raises CannotMerge."""
    others = _without_block(old)
    theirs = _toml(others)
    profile = codex_profile(endpoint)
    ours = tomllib.loads(profile)
    for key in ("model", "model_provider"):
        if key in theirs:
            raise CannotMerge(f"it sets {key} already")
    if NAME in theirs.get("model_providers", {}):
        raise CannotMerge(f"it has a provider called {NAME} already")
    new = f"{_BEGIN}\n{profile}{_END}\n{others}"
    providers = {**theirs.get("model_providers", {}), **ours["model_providers"]}
    if _toml(new) != {**theirs, **ours, "model_providers": providers}:
        raise CannotMerge("its tables cannot be added to")
    return new


def _without_block(text: str) -> str:
    before, begin, rest = text.partition(f"{_BEGIN}\n")
    _, end, after = rest.partition(f"{_END}\n")
    if begin and not end:
        raise CannotMerge(f"the line '{_END}' is missing")
    return before + after


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotMerge(f"it is not TOML: {error}") from error


def opencode_config(endpoint: Endpoint) -> dict[str, Any]:
    """What opencode must know: a provider with one model."""
    key = f"{{env:{KEY_VARIABLE}}}" if endpoint.needs_key else "none"
    provider = {
        "npm": "@ai-sdk/openai",  # the one that speaks the Responses API
        "name": NAME,
        "options": {"baseURL": endpoint.url, "apiKey": key},
        "models": {endpoint.model: {"name": endpoint.model}},
    }
    return {"$schema": "https://opencode.ai/config.json", "provider": {NAME: provider}}


def merge_opencode(old: str, endpoint: Endpoint) -> str:
    """`old`, a file of opencode or nothing, with the provider in it. Raises CannotMerge."""
    try:
        theirs = msgspec.json.decode(old.strip() or "{}", type=dict[str, Any])
        providers = msgspec.convert(theirs.get("provider", {}), dict[str, Any])
    except msgspec.ValidationError as error:
        raise CannotMerge("it does not hold an object of providers") from error
    except msgspec.DecodeError as error:
        raise CannotMerge(f"it is not plain JSON ({error}); comments would be lost") from error
    ours = opencode_config(endpoint)
    start = theirs or {"$schema": ours["$schema"]}
    return text_of_opencode({**start, "provider": {**providers, **ours["provider"]}})


def text_of_opencode(config: Mapping[str, Any]) -> str:
    """The configuration as opencode's file holds it."""
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def agents_program(endpoint: Endpoint) -> str:
    """A small program of the OpenAI Agents SDK that runs an agent over WebSocket."""
    key = f"os.environ[{_json(KEY_VARIABLE)}]" if endpoint.needs_key else '"none"'
    # The SDK takes what stands before a slash for the name of a provider, unless told otherwise.
    prefix = ', openai_prefix_mode="model_id", unknown_prefix_mode="model_id"' if "/" in endpoint.model else ""
    imports = "import asyncio\nimport os\n" if endpoint.needs_key else "import asyncio\n"
    return f"""\
{imports}
from agents import Agent, responses_websocket_session, set_tracing_disabled


async def main() -> None:
    set_tracing_disabled(True)  # traces would go to OpenAI
    async with responses_websocket_session(base_url={_json(endpoint.url)}, api_key={key}{prefix}) as session:
        agent = Agent(name="Assistant", instructions="You are helpful.", model={_json(endpoint.model)})
        result = await session.run(agent, "What can you do?", auto_previous_response_id=True)
        print(result.final_output)


asyncio.run(main())
"""


def _json(value: str | bool) -> str:
    """A string or boolean as TOML, JSON and Python's strings have it."""
    return json.dumps(value, ensure_ascii=False)
