"""How much of the machine the engine may use, and the defaults that follow from the model and the machine."""

import contextlib
import os
from pathlib import Path

import msgspec

DEFAULT_CONTEXT_TOKENS = 32_768  # long-context models name 256k and more; their KV would not fit most machines
DEFAULT_KV_CELLS = 32_768
DEFAULT_SEQUENCES = 64
MAX_KV_CELLS = 1 << 22
MAX_SEQUENCES = 255  # llama.cpp has 256, of which one is for copying
MAX_PARKED_BYTES = 1 << 40
DEFAULT_PARKED_BYTES = 8 << 30  # at most; what llama.cpp's own server keeps of prompts in host memory
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")  # of the container, from inside
MIN_CONTEXT_TOKENS = 16
MIN_KV_CELLS = 512  # one batch: llama.cpp aborts on a batch larger than its cache


class HostOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; None takes the default. Raises ValueError for what is out of bounds."""

    path: str
    context_tokens: int | None = None  # most tokens of one chain; default: the model's, at most 32,768
    kv_cells: int | None = None  # tokens of KV for all chains together; default: the context, at least 32,768
    sequences: int | None = None  # chains whose KV is kept at one time, 1 to 255; default 64
    parked_bytes: int | None = None  # KV outside the cache; default: 1/8 of memory, at most 8 GiB; 0: none
    threads: int | None = None  # default: physical cores - 1, at least 1

    def __post_init__(self) -> None:
        _check("context_tokens", self.context_tokens, MIN_CONTEXT_TOKENS, MAX_KV_CELLS)
        _check("kv_cells", self.kv_cells, MIN_KV_CELLS, MAX_KV_CELLS)
        _check("sequences", self.sequences, 1, MAX_SEQUENCES)
        _check("parked_bytes", self.parked_bytes, 0, MAX_PARKED_BYTES)
        _check("threads", self.threads, 1, 1024)
        if self.kv_cells is not None and self.context_tokens is not None and self.kv_cells < self.context_tokens:
            raise ValueError(f"kv_cells ({self.kv_cells}) must be at least context_tokens ({self.context_tokens})")


class Settings(msgspec.Struct, frozen=True):
    """Options with every default filled in."""

    context_tokens: int
    kv_cells: int
    sequences: int
    parked_bytes: int
    threads: int


def resolve(options: HostOptions, trained_context: int) -> Settings:
    """Fill in the defaults. A context beyond what the model was trained for is capped to that."""
    trained = trained_context or DEFAULT_CONTEXT_TOKENS
    context = min(options.context_tokens or DEFAULT_CONTEXT_TOKENS, options.kv_cells or MAX_KV_CELLS, trained)
    return Settings(
        context_tokens=context,
        kv_cells=options.kv_cells or max(context, DEFAULT_KV_CELLS),
        sequences=options.sequences or DEFAULT_SEQUENCES,
        parked_bytes=default_parked_bytes() if options.parked_bytes is None else options.parked_bytes,
        threads=options.threads or max(1, physical_cores() - 1),
    )


def default_parked_bytes(cgroup_limit: Path = CGROUP_LIMIT) -> int:
    """An eighth of the memory that the machine has, or that its container may use; at most 8 GiB."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # no such file, or "max" in it
        memory = min(memory, int(cgroup_limit.read_text()))
    return min(memory // 8, DEFAULT_PARKED_BYTES)


def physical_cores() -> int:
    """Cores this process may run on; hyper-threads of one core count once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = {_siblings(cpu) for cpu in os.sched_getaffinity(0)}
    return len(cores) or 1


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text()
    except OSError:
        return str(cpu)


def _check(name: str, value: int | None, least: int, most: int) -> None:
    if value is not None and not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value}")
