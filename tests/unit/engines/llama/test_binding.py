from pathlib import Path

import numpy as np
import pytest
from tests.support.random_gguf import write_sliding_gguf

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


def test_what_is_saved_and_loaded_piece_by_piece_gives_the_same_logits(random_model: Path) -> None:
    context = context_of(random_model)
    put(context, 0, 0, list(range(40)))
    copies = [context.save(0, start, start + 20) for start in (0, 20)]
    put(context, 0, 40, [7])
    expected = context.logits(0).copy()
    assert context.remove(0, 0)
    put(context, 1, 0, [1, 2, 3])  # it lies in other cells now
    for start, copy in zip((0, 20), copies, strict=True):
        assert copy is not None
        assert context.load(2, start, start + 20, copy)
    put(context, 2, 40, [7])
    np.testing.assert_array_equal(context.logits(0), expected)


def test_a_part_of_a_copy_can_be_loaded(random_model: Path) -> None:
    context = context_of(random_model)
    put(context, 0, 0, [1, 2, 3, 4, 5, 6])
    copy = context.save(0, 0, 6)
    assert copy is not None
    context.share(0, 1, 2)
    assert context.load(1, 2, 4, copy)
    assert context.last_position(1) == 3
    put(context, 1, 4, [9])
    loaded = context.logits(0).copy()
    assert context.remove(0, 4)
    put(context, 0, 4, [9])
    np.testing.assert_allclose(loaded, context.logits(0), atol=5e-3)  # its cells are in another order


def test_a_copy_that_finds_no_room_is_said_and_changes_nothing(random_model: Path) -> None:
    context = context_of(random_model)
    put(context, 0, 0, [1] * 60)
    copy = context.save(0, 0, 60)
    assert copy is not None
    for sequence in (1, 2, 3):
        put(context, sequence, 0, [1] * 60)
    assert not context.load(0, 60, 120, copy)
    assert context.last_position(0) == 59
    assert context.remove(0, 0)
    assert context.load(0, 0, 60, copy), "nothing was left behind"


def test_a_sliding_window_is_no_cache_whose_parts_can_be_copied(random_model: Path, tmp_path: Path) -> None:
    sliding = Model(str(write_sliding_gguf(tmp_path / "sliding.gguf")))
    assert Model(str(random_model)).keeps_all_kv
    assert sliding.can_rewind
    assert not sliding.keeps_all_kv


def test_close_is_idempotent(random_model: Path) -> None:
    model = Model(str(random_model))
    context = Context(model, cells=256, sequences=1, batch_tokens=64, threads=1)
    context.close()
    context.close()
    model.close()
    model.close()


def test_a_tail_is_not_dropped_where_the_cells_that_its_window_had_passed_are_somebody_elses(tmp_path: Path) -> None:
    context = context_of(write_sliding_gguf(tmp_path / "sliding.gguf", window=16))
    put(context, 0, 0, [1] * 60)
    put(context, 1, 0, [2] * 60)
    put(context, 1, 60, [2] * 40)
    assert context.can_end(1, 50), "all is there"
    context.remove(0, 0)
    put(context, 2, 0, [3] * 64)
    put(context, 2, 64, [3] * 56)  # 60 cells are free behind all, but these are found before
    assert [context.can_end(1, end) for end in (0, 50, 70, 76, 100)] == [True, False, False, True, True]
    assert not context.remove(1, 50)
    assert context.last_position(1) == 99
    assert context.remove(1, 80)
    assert context.last_position(1) == 79
