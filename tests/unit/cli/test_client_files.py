"""Configuration files of other clients: what is merged, what stays, what is refused."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotloop.cli.client_files import (
    CannotMerge,
    Endpoint,
    agents_program,
    codex_profile,
    merge_codex,
    merge_opencode,
)

HERE = Endpoint("http://127.0.0.1:8000/v1", "tiny")
THERE = Endpoint("http://10.0.0.1:9000/v1", "other", needs_key=True)


def test_the_codex_profile_asks_for_websockets() -> None:
    provider = tomllib.loads(codex_profile(HERE))["model_providers"]["hotloop"]
    assert provider == {"name": "hotloop", "base_url": HERE.url, "wire_api": "responses", "supports_websockets": True}


def test_the_key_is_named_and_never_written() -> None:
    assert tomllib.loads(codex_profile(THERE))["model_providers"]["hotloop"]["env_key"] == "HOTLOOP_API_KEY"
    assert json.loads(merge_opencode("", THERE))["provider"]["hotloop"]["options"]["apiKey"] == "{env:HOTLOOP_API_KEY}"
    assert 'api_key=os.environ["HOTLOOP_API_KEY"]' in agents_program(THERE)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_model_name_survives(name: str) -> None:
    endpoint = Endpoint(HERE.url, name)
    assert tomllib.loads(codex_profile(endpoint))["model"] == name
    assert name in json.loads(merge_opencode("", endpoint))["provider"]["hotloop"]["models"]
    compile(agents_program(endpoint), "program", "exec")


def test_a_codex_file_keeps_its_lines_and_comments() -> None:
    old = '# mine\napproval_policy = "never"\n\n[model_providers.azure]\nname = "Azure"  # work\n'
    new = merge_codex(old, HERE)
    assert new.endswith(old)
    merged = tomllib.loads(new)
    assert merged["approval_policy"] == "never"
    assert set(merged["model_providers"]) == {"azure", "hotloop"}


def test_a_second_merge_takes_the_place_of_the_first() -> None:
    old = "[tui]\nanimations = false\n"
    assert merge_codex(merge_codex(old, HERE), THERE) == merge_codex(old, THERE)


@pytest.mark.parametrize(
    ("old", "reason"),
    [
        ('model = "gpt-5"\n', "sets model already"),
        ('model_provider = "azure"\n', "sets model_provider already"),
        ('[model_providers.hotloop]\nname = "mine"\n', "provider called hotloop"),
        ('model_providers = { azure = { name = "Azure" } }\n', "not TOML|cannot be added to"),
        ("not toml", "not TOML"),
        ("# hotloop: begin\nmodel = 1\n", "'# hotloop: end' is missing"),
    ],
)
def test_a_codex_file_in_the_way_is_refused(old: str, reason: str) -> None:
    with pytest.raises(CannotMerge, match=reason):
        merge_codex(old, HERE)


def test_an_opencode_file_keeps_everything_else() -> None:
    old: dict[str, Any] = {"theme": "ö", "provider": {"azure": {"name": "Azure"}, "hotloop": {"name": "old"}}, "x": [1]}
    merged = json.loads(merge_opencode(json.dumps(old), HERE))
    assert list(merged) == list(old)
    assert merged["provider"]["azure"] == {"name": "Azure"}
    assert merged["provider"]["hotloop"]["options"]["baseURL"] == HERE.url
    assert merge_opencode(json.dumps(merged), HERE) == merge_opencode(json.dumps(old), HERE)


@pytest.mark.parametrize(
    ("old", "reason"),
    [
        ("// mine\n{}", "comments would be lost"),
        ("[]", "object of providers"),
        ('{"provider": 1}', "object of providers"),
    ],
)
def test_an_opencode_file_in_the_way_is_refused(old: str, reason: str) -> None:
    with pytest.raises(CannotMerge, match=reason):
        merge_opencode(old, HERE)


def test_a_model_with_a_slash_is_no_provider_to_the_agents_sdk() -> None:
    assert "unknown_prefix_mode" in agents_program(Endpoint(HERE.url, "qwen/qwen3"))
    assert "unknown_prefix_mode" not in agents_program(HERE)
