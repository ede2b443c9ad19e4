from pathlib import Path

import numpy as np
import pytest

from hotloop.engines.llama import binding
from hotloop.engines.llama.binding import Context, Library, Model
from hotloop.engines.llama.faults import LibraryError


def context_of(model: Path) -> Context:
    return Context(Model(str(model)), cells=256, sequences=4, batch_tokens=64, threads=1)


def put(context: Context, sequence: int, start: int, tokens: list[int]) -> None:
    end = len(tokens)
    context.tokens[:end] = tokens
    context.positions[:end] = range(start, start + end)
    context.sequences[:end] = sequence
    context.wants_logits[:end] = 0
    context.wants_logits[end - 1] = 1
    assert context.decode(end)


def test_a_library_that_is_none_is_one_clear_error(tmp_path: Path) -> None:
    other = tmp_path / "libllama.so"
    other.write_bytes(b"not an object")
    with pytest.raises(LibraryError, match=r"cannot use .*libllama\.so"):
        Library(str(other))


def test_another_wheel_version_is_refused_and_the_right_one_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "SUPPORTED", ("1.2.3",))
    monkeypatch.delenv("LIBLLAMA", raising=False)
    binding.library.cache_clear()
    with pytest.raises(LibraryError, match=r"pip install xllamacpp==1\.2\.3"):
        binding.library()
    binding.library.cache_clear()


def test_a_shared_prefix_gives_the_logits_of_a_prefix_decoded_again(random_model: Path) -> None:
    context = context_of(random_model)
    put(context, 0, 0, [1, 2, 3, 4])
    context.share(0, 1, 3)
    put(context, 1, 3, [9])
    shared = context.logits(0).copy()
    put(context, 2, 0, [1, 2, 3, 9])
    np.testing.assert_allclose(shared, context.logits(3), rtol=1e-3, atol=1e-3)


def test_removing_a_tail_moves_the_last_position_back(random_model: Path) -> None:
    context = context_of(random_model)
    put(context, 0, 0, [1, 2, 3, 4])
    assert context.remove(0, 2)
    assert (context.last_position(0), context.last_position(1)) == (1, -1)


def test_no_room_is_said_and_changes_nothing(random_model: Path) -> None:
    context = context_of(random_model)
    for sequence in range(4):
        put(context, sequence, 0, [1] * 63)
    context.tokens[:8] = 1
    context.positions[:8] = range(63, 71)
    context.sequences[:8] = 0
    assert not context.decode(8)
    assert context.last_position(0) == 62


def test_close_is_idempotent(random_model: Path) -> None:
    model = Model(str(random_model))
    context = Context(model, cells=256, sequences=1, batch_tokens=64, threads=1)
    context.close()
    context.close()
    model.close()
    model.close()
