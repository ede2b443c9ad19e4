from pathlib import Path

import pytest

from hotloop.engines.llama.options import (
    DEFAULT_CONTEXT_TOKENS,
    HostOptions,
    default_parked_bytes,
    physical_cores,
    resolve,
)


def test_the_context_is_the_models_own() -> None:
    settings = resolve(HostOptions(path="m"), trained_context=4096)
    assert (settings.context_tokens, settings.kv_cells) == (4096, 32_768)


def test_a_long_context_must_be_asked_for() -> None:
    assert resolve(HostOptions(path="m"), trained_context=262_144).context_tokens == DEFAULT_CONTEXT_TOKENS
    settings = resolve(HostOptions(path="m", context_tokens=100_000), trained_context=262_144)
    assert (settings.context_tokens, settings.kv_cells) == (100_000, 100_000)


def test_no_context_is_longer_than_the_model_was_trained_for() -> None:
    assert resolve(HostOptions(path="m", context_tokens=100_000), trained_context=4096).context_tokens == 4096


def test_the_context_fits_the_cells() -> None:
    assert resolve(HostOptions(path="m", kv_cells=1000), trained_context=4096).context_tokens == 1000


def test_a_file_that_names_no_context_gets_the_default() -> None:
    assert resolve(HostOptions(path="m"), trained_context=0).context_tokens == DEFAULT_CONTEXT_TOKENS


def test_one_core_is_left_to_the_server() -> None:
    assert resolve(HostOptions(path="m"), 4096).threads == max(1, physical_cores() - 1)


@pytest.mark.parametrize("option", ["context_tokens", "kv_cells", "sequences", "threads"])
@pytest.mark.parametrize("value", [0, -1, 1 << 40])
def test_what_is_out_of_bounds_is_named(option: str, value: int) -> None:
    with pytest.raises(ValueError, match=option):
        HostOptions(path="m", **{option: value})


def test_a_container_with_little_memory_keeps_little_kv_outside_the_cache(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    everything = default_parked_bytes(limit)
    limit.write_text("max\n")
    assert default_parked_bytes(limit) == everything
    limit.write_text(f"{1 << 26}\n")
    assert default_parked_bytes(limit) == 1 << 23


def test_kv_outside_the_cache_is_bounded_by_default_and_may_be_none() -> None:
    assert 0 < resolve(HostOptions(path="m"), 4096).parked_bytes <= 8 << 30
    assert resolve(HostOptions(path="m", parked_bytes=0), 4096).parked_bytes == 0
    with pytest.raises(ValueError, match="parked_bytes"):
        HostOptions(path="m", parked_bytes=-1)
