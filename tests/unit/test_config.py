from pathlib import Path
from typing import Any

import pytest

from hotloop.config import ConfigError, Settings, load_settings


def load(flags: dict[tuple[str, str], Any] | None = None, **environment: str) -> Settings:
    return load_settings({"PATH": "/bin", **environment}, flags or {})


def test_without_anything_the_defaults_hold() -> None:
    assert load() == Settings()


def test_the_environment_is_read_by_type() -> None:
    settings = load(
        HOTLOOP_PORT="0",
        HOTLOOP_DRAIN_TIMEOUT_S="1.5",
        HOTLOOP_MODEL="/m.gguf",
        HOTLOOP_ALLOW_ORIGINS="https://a.example, https://b.example,",
        HOTLOOP_API_KEY="k",
        HOTLOOP_HOST="0.0.0.0",
        HOTLOOP_URL="http://read.by.the.client",
    )
    assert (settings.server.port, settings.server.drain_timeout_s) == (0, 1.5)
    assert settings.model.path == Path("/m.gguf")
    assert settings.server.allow_origins == ("https://a.example", "https://b.example")


def test_a_flag_wins_over_the_environment_and_none_is_no_flag() -> None:
    flags = {("server", "port"): 9, ("model", "name"): None}
    settings = load(flags, HOTLOOP_PORT="8", HOTLOOP_MODEL_NAME="n")
    assert (settings.server.port, settings.model.name) == (9, "n")


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"HOTLOOP_PROT": "1"}, "HOTLOOP_PROT"),
        ({"HOTLOOP_PORT": "eight"}, "HOTLOOP_PORT"),
        ({"HOTLOOP_DRAIN_TIMEOUT_S": "soon"}, "HOTLOOP_DRAIN_TIMEOUT_S"),
        ({"HOTLOOP_DRAIN_TIMEOUT_S": "nan"}, "drain_timeout_s"),
        ({"HOTLOOP_TURN_TIMEOUT_S": "inf"}, "turn_timeout_s"),
        ({"HOTLOOP_CONNECTION_LIFETIME_S": "0"}, "connection_lifetime_s"),
        ({"HOTLOOP_MAX_MESSAGE_BYTES": "-1"}, "max_message_bytes"),
        ({"HOTLOOP_PORT": "70000"}, "port"),
        ({"HOTLOOP_HOST": "0.0.0.0"}, "HOTLOOP_API_KEY"),
        ({"HOTLOOP_HOST": "127.example.org"}, "HOTLOOP_API_KEY"),
        ({"HOTLOOP_ENGINE": "magic"}, "magic"),
        ({"HOTLOOP_ENGINE": "scripted"}, "--script"),
        ({"HOTLOOP_SCRIPT": "x.yaml"}, "--script"),
        ({"HOTLOOP_SEQUENCES": "0"}, "sequences"),
        ({"HOTLOOP_SEQUENCES": "256"}, "sequences"),
        ({"HOTLOOP_PARKED_KV_BYTES": "-2"}, "parked_kv_bytes"),
        ({"HOTLOOP_CONTEXT_TOKENS": "-1"}, "context_tokens"),
        ({"HOTLOOP_THREADS": "-2"}, "threads"),
        ({"HOTLOOP_LOG_LEVEL": "loud"}, "log_level"),
        ({"HOTLOOP_REASONING_EVENTS": "mine"}, "reasoning_events"),
        ({"HOTLOOP_CACHES": "some"}, "caches"),
        ({"HOTLOOP_MAX_DELAY_S": "1.5"}, "max_delay_s"),
        ({"HOTLOOP_MAX_DELAY_S": "nan"}, "max_delay_s"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name_in_one_line(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(environment, {})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_address_may_be_served_with_a_key() -> None:
    assert load(HOTLOOP_HOST="0.0.0.0", HOTLOOP_API_KEY="k").server.host == "0.0.0.0"


def test_tool_servers_need_the_mcp_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"HOTLOOP_TOOL_SERVERS": "tools.yaml"}, {}).server.tool_servers == Path("tools.yaml")
    monkeypatch.setattr("hotloop.config.find_spec", dict[str, None]().get)
    with pytest.raises(ConfigError, match=r"hotloop\[mcp\]"):
        load_settings({"HOTLOOP_TOOL_SERVERS": "tools.yaml"}, {})


def test_traces_need_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings({"HOTLOOP_TRACES": "on"}, {}).server.traces == "on"
    with pytest.raises(ConfigError, match="known are on, off"):
        load_settings({"HOTLOOP_TRACES": "yes"}, {})
    monkeypatch.setattr("hotloop.config.find_spec", dict[str, None]().get)
    with pytest.raises(ConfigError, match=r"hotloop\[otel\]"):
        load_settings({"HOTLOOP_TRACES": "on"}, {})


def test_urls_are_fetched_from_nowhere_unless_told() -> None:
    assert load().server.remote_sources == ()
    sources = load(HOTLOOP_REMOTE_SOURCES="a.example, http://b.example:81").server.remote_sources
    assert [(source.scheme, source.host, source.port) for source in sources] == [
        ("https", "a.example", 443),
        ("http", "b.example", 81),
    ]
    with pytest.raises(ConfigError, match="HOTLOOP_REMOTE_SOURCES: 'ftp://c' names no host"):
        load(HOTLOOP_REMOTE_SOURCES="ftp://c")
