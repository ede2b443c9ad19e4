"""Taking the mask off a client's payload (RFC 6455 §5.3): in C where `websockets` brings its extension, else with numpy."""

from collections.abc import Callable

import numpy as np

Unmask = Callable[[bytes, bytes], bytes]

UNMASKED_BY_NUMPY = "unmasked_by_numpy"  # the fallback's name: dearer than in C, most of all for short messages


def unmask_numpy(data: bytes, mask: bytes) -> bytes:
    """`data` with the four bytes of `mask` repeated over it, exclusive-or."""
    size = len(data)
    words = np.frombuffer(data.ljust(-(-size // 4) * 4, b"\0"), np.uint32)
    return (words ^ np.frombuffer(mask, np.uint32)).tobytes()[:size]


def _fastest() -> Unmask:
    try:
        from websockets.speedups import apply_mask
    except ImportError:  # a platform without a compiled wheel
        return unmask_numpy
    return apply_mask


unmask: Unmask = _fastest()


def slower_paths() -> tuple[str, ...]:
    """Names of the fallbacks that every message takes in this process."""
    return (UNMASKED_BY_NUMPY,) if unmask is unmask_numpy else ()
