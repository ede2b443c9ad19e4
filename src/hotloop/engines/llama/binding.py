"""libllama through ctypes: typed functions, models and contexts. No policy.

The shared object is the one inside the pinned `xllamacpp` wheel, which exports llama.cpp's whole C API. `LIBLLAMA` names
another one (same layout, checked all the same). ctypes releases the GIL during every call.

No Python callback is ever left installed: llama.cpp calls its log callback from inside `llama_decode`, and a Python
one would take the GIL each time. While a model loads a Python callback collects the errors; afterwards libc's `abs`
stands in, which ignores what it is given.
"""

import ctypes as c
import functools
import importlib.metadata
import importlib.util
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotloop.engines.llama.faults import DecodeError, LibraryError, ModelFileError
from hotloop.engines.llama.layout import SUPPORTED, Batch, ContextParams, ModelParams, layout_fault

MAX_SEQUENCES = 255  # LLAMA_MAX_SEQ is 256; one is for copying
ATTR_CONTROL = 1 << 3  # llama_token_attr
ATTR_USER_DEFINED = 1 << 4
VOCABULARY_BPE = 2  # llama_vocab_type
LOG_ERROR = 4  # ggml_log_level

_LOG_CALLBACK = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
_PTR = c.c_void_p
_I32 = c.c_int32

# name: (result, arguments)
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "llama_backend_init": (None, ()),
    "llama_log_set": (None, (_PTR, _PTR)),
    "llama_model_default_params": (ModelParams, ()),
    "llama_context_default_params": (ContextParams, ()),
    "llama_model_load_from_file": (_PTR, (c.c_char_p, ModelParams)),
    "llama_model_free": (None, (_PTR,)),
    "llama_model_get_vocab": (_PTR, (_PTR,)),
    "llama_model_is_recurrent": (c.c_bool, (_PTR,)),
    "llama_model_is_hybrid": (c.c_bool, (_PTR,)),
    "llama_model_n_swa": (_I32, (_PTR,)),
    "llama_model_chat_template": (c.c_char_p, (_PTR, c.c_char_p)),
    "llama_model_meta_val_str": (_I32, (_PTR, c.c_char_p, c.c_char_p, c.c_size_t)),
    "llama_vocab_n_tokens": (_I32, (_PTR,)),
    "llama_vocab_type": (_I32, (_PTR,)),
    "llama_vocab_get_attr": (_I32, (_PTR, _I32)),
    "llama_vocab_is_eog": (c.c_bool, (_PTR, _I32)),
    "llama_tokenize": (_I32, (_PTR, c.c_char_p, _I32, _PTR, _I32, c.c_bool, c.c_bool)),
    "llama_token_to_piece": (_I32, (_PTR, _I32, c.c_char_p, _I32, _I32, c.c_bool)),
    "llama_init_from_model": (_PTR, (_PTR, ContextParams)),
    "llama_free": (None, (_PTR,)),
    "llama_get_memory": (_PTR, (_PTR,)),
    "llama_decode": (_I32, (_PTR, Batch)),
    "llama_get_logits_ith": (_PTR, (_PTR, _I32)),
    "llama_memory_seq_rm": (c.c_bool, (_PTR, _I32, _I32, _I32)),
    "llama_memory_seq_cp": (None, (_PTR, _I32, _I32, _I32, _I32)),
    "llama_memory_seq_pos_min": (_I32, (_PTR, _I32)),
    "llama_memory_seq_pos_max": (_I32, (_PTR, _I32)),
    "llama_state_seq_get_size": (c.c_size_t, (_PTR, _I32)),
    "llama_state_seq_get_data": (c.c_size_t, (_PTR, _PTR, c.c_size_t, _I32)),
    "llama_state_seq_set_data": (c.c_size_t, (_PTR, _PTR, c.c_size_t, _I32)),
}


class Library:
    """The loaded and checked shared object. `call.<name>` is the C function of that name."""

    def __init__(self, path: str) -> None:
        try:
            shared_object = c.CDLL(path)
            self._functions = {name: _typed(shared_object, name) for name in _SIGNATURES}
        except (OSError, AttributeError) as error:
            raise LibraryError(f"cannot use {path} as libllama: {error}") from error
        self._loading = threading.Lock()
        self._quiet = c.cast(c.CDLL(None).abs, _PTR)
        fault = layout_fault(self["llama_model_default_params"](), self["llama_context_default_params"]())
        if fault:
            raise LibraryError(
                f"the llama.cpp in {path} has another layout ({fault}); install xllamacpp=={SUPPORTED[-1]}"
            )
        self["llama_log_set"](self._quiet, None)
        self["llama_backend_init"]()

    def __getitem__(self, name: str) -> Callable[..., Any]:
        return self._functions[name]

    @contextmanager
    def collecting_errors(self) -> Generator[list[str]]:
        """The library's error lines while the block runs. One block at a time: the log is the process's."""
        lines: list[str] = []

        def collect(level: int, text: bytes, _user_data: object) -> None:
            if level == LOG_ERROR:
                lines.append(text.decode("utf-8", "replace").strip())

        callback = _LOG_CALLBACK(collect)
        with self._loading:
            self["llama_log_set"](c.cast(callback, _PTR), None)
            try:
                yield lines
            finally:
                self["llama_log_set"](self._quiet, None)


def _typed(shared_object: c.CDLL, name: str) -> Callable[..., Any]:
    function = getattr(shared_object, name)
    function.restype, function.argtypes = _SIGNATURES[name]
    return function  # type: ignore[no-any-return]  # ctypes functions are untyped by nature


@functools.cache
def library() -> Library:
    """The process's libllama, loaded on first use. Raises LibraryError."""
    return Library(os.environ.get("LIBLLAMA") or _wheel_library())


def _wheel_library() -> str:
    spec = importlib.util.find_spec("xllamacpp")
    if spec is None or spec.origin is None:
        raise LibraryError(f"xllamacpp is not installed; pip install xllamacpp=={SUPPORTED[-1]}")
    version = importlib.metadata.version("xllamacpp")
    if version not in SUPPORTED:
        raise LibraryError(f"xllamacpp {version} is not supported; pip install xllamacpp=={SUPPORTED[-1]}")
    return str(Path(spec.origin).parent / "xllamacpp.abi3.so")


class Model:
    """A GGUF model, or only its vocabulary. Reading is thread-safe; freed by `close`."""

    def __init__(self, path: str, *, vocabulary_only: bool = False) -> None:
        self._lib = library()
        self.path = path
        params = self._lib["llama_model_default_params"]()
        params.vocab_only = vocabulary_only
        if vocabulary_only:
            params.n_gpu_layers = 0
        with self._lib.collecting_errors() as errors:
            self.pointer: int | None = self._lib["llama_model_load_from_file"](os.fsencode(path), params)
        if not self.pointer:
            raise ModelFileError(path, _reason(errors))
        self.vocabulary: int = self._lib["llama_model_get_vocab"](self.pointer)
        self.vocabulary_size: int = self._lib["llama_vocab_n_tokens"](self.vocabulary)
        self.vocabulary_type: int = self._lib["llama_vocab_type"](self.vocabulary)

    @property
    def trained_context(self) -> int:
        """Tokens of context the model was trained for, 0 if the file does not say."""
        # llama_model_n_ctx_train is 0 for a vocabulary-only load
        return int(self.metadata(f"{self.metadata('general.architecture')}.context_length") or 0)

    @property
    def can_rewind(self) -> bool:
        """Its memory can drop a tail of a sequence; a recurrent state cannot."""
        return not (
            self._lib["llama_model_is_recurrent"](self.pointer) or self._lib["llama_model_is_hybrid"](self.pointer)
        )

    @property
    def has_cells(self) -> bool:
        """Tokens take cells of a KV cache; a recurrent state is as large after many as after one."""
        return not self._lib["llama_model_is_recurrent"](self.pointer)

    @property
    def keeps_all_kv(self) -> bool:
        """The KV of every token stays and can be copied in parts.

        Not so in a recurrent state. Of a sliding window llama.cpp copies only what is inside: enough to go on, not to rewind.
        """
        return self.can_rewind and self.window == 0

    @property
    def window(self) -> int:
        """How many tokens back its sliding layers see, 0 if there are none."""
        return int(self._lib["llama_model_n_swa"](self.pointer))

    @property
    def chat_template(self) -> str | None:
        """The Jinja chat template in the file."""
        template: bytes | None = self._lib["llama_model_chat_template"](self.pointer, None)
        return template.decode("utf-8", "replace") if template is not None else None

    def metadata(self, key: str) -> str | None:
        """A metadata value of the file as text."""
        buffer = c.create_string_buffer(1024)
        size = self._lib["llama_model_meta_val_str"](self.pointer, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if size >= 0 else None

    def tokens_with(self, attributes: int) -> list[int]:
        """Tokens that have any of these `llama_token_attr` bits."""
        get = self._lib["llama_vocab_get_attr"]
        return [token for token in range(self.vocabulary_size) if get(self.vocabulary, token) & attributes]

    def stop_tokens(self) -> list[int]:
        """Tokens with which the model says that it is done."""
        ends = self._lib["llama_vocab_is_eog"]
        return [token for token in range(self.vocabulary_size) if ends(self.vocabulary, token)]

    def tokenize(self, text: bytes) -> NDArray[np.int32]:
        """Ids of plain text: control tokens are not parsed, nothing is added. User-defined tokens ARE parsed by llama.cpp."""
        ids = np.empty(len(text) + 8, np.int32)  # a token is at least one byte long; a few more for added prefixes
        count = self._lib["llama_tokenize"](self.vocabulary, text, len(text), ids.ctypes.data, len(ids), False, False)
        assert count >= 0, "llama_tokenize needs more tokens than bytes"
        return ids[:count]

    def pieces(self) -> list[bytes]:
        """Bytes of every token; a control token gives its spelling."""
        to_piece, buffer = self._lib["llama_token_to_piece"], c.create_string_buffer(256)
        pieces: list[bytes] = []
        for token in range(self.vocabulary_size):
            size = to_piece(self.vocabulary, token, buffer, len(buffer), 0, True)
            if size < 0:  # what is missing
                buffer = c.create_string_buffer(-size)
                size = to_piece(self.vocabulary, token, buffer, len(buffer), 0, True)
            pieces.append(c.string_at(buffer, size))
        return pieces

    def close(self) -> None:
        """Free the model. Idempotent; every context of it must be closed before."""
        if self.pointer:
            self._lib["llama_model_free"](self.pointer)
            self.pointer = None


def _reason(errors: list[str]) -> str:
    """The first error line says what was wrong, those after it only that something was."""
    first = next((line for line in errors if line), "llama.cpp cannot load it")
    line = first.rpartition(": error loading model: ")[2].splitlines()[0]
    if "failed to read" in line or "not within the file bounds" in line:
        return f"truncated or damaged: {line}"
    return line


class Context:
    """A KV cache of `cells` tokens shared by `sequences` sequences, and one batch to decode. Not thread-safe."""

    def __init__(self, model: Model, *, cells: int, sequences: int, batch_tokens: int, threads: int) -> None:
        assert 1 <= sequences <= MAX_SEQUENCES
        self._lib = library()
        params = self._lib["llama_context_default_params"]()
        params.n_ctx, params.n_seq_max = cells, sequences + 1
        params.n_batch = params.n_ubatch = batch_tokens
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = True  # any sequence may use any cell, and seq_cp shares cells instead of copying them
        params.no_perf = True
        with self._lib.collecting_errors() as errors:
            self._pointer: int | None = self._lib["llama_init_from_model"](model.pointer, params)
        if not self._pointer:
            raise ModelFileError(model.path, f"no context of {cells} tokens: {_reason(errors)}")
        self._memory = self._lib["llama_get_memory"](self._pointer)
        self._can_rewind, self._window = model.can_rewind, model.window
        self._copying = sequences  # llama.cpp copies whole sequences: this one sees a part of another
        self._decode = self._lib["llama_decode"]
        self._logits_ith = self._lib["llama_get_logits_ith"]
        self.vocabulary_size = model.vocabulary_size
        self._logits_type = c.c_float * model.vocabulary_size
        self._make_batch(batch_tokens)

    def _make_batch(self, size: int) -> None:
        """Our own arrays behind `llama_batch`: numpy fills them without a ctypes call per token."""
        self.tokens = np.zeros(size, np.int32)
        self.positions = np.zeros(size, np.int32)
        self.sequences = np.zeros(size, np.int32)
        self.wants_logits = np.zeros(size, np.int8)
        self._sequence_counts = np.ones(size, np.int32)
        stride = self.sequences.itemsize
        self._sequence_pointers = self.sequences.ctypes.data + stride * np.arange(size, dtype=np.uintp)
        self._batch = Batch(
            0,
            self.tokens.ctypes.data,
            None,
            self.positions.ctypes.data,
            self._sequence_counts.ctypes.data,
            self._sequence_pointers.ctypes.data,
            self.wants_logits.ctypes.data,
        )

    def decode(self, count: int) -> bool:
        """Decode the first `count` entries of the batch arrays. False: no room in the KV cache, nothing was changed."""
        self._batch.n_tokens = count
        code: int = self._decode(self._pointer, self._batch)
        if code not in (0, 1):
            raise DecodeError(code)
        return code == 0

    def logits(self, index: int) -> NDArray[np.float32]:
        """Logits of batch entry `index`; a view, valid until the next decode."""
        address: int = self._logits_ith(self._pointer, index)
        assert address, f"batch entry {index} asked for no logits"
        return np.frombuffer(memoryview(self._logits_type.from_address(address)), np.float32)

    def can_end(self, sequence: int, end: int) -> bool:
        """A sequence cut at position `end`, or what shares it up to there, could be decoded on.

        A recurrent state cannot be cut. Cells that a sliding window has passed are given to others whenever llama.cpp comes
        by them: a token decoded where it has been before would not see what it should.
        """
        if end == 0 or (self._can_rewind and self._window == 0):
            return True
        if not self._can_rewind:
            return end == self.last_position(sequence) + 1
        first: int = self._lib["llama_memory_seq_pos_min"](self._memory, sequence)
        return 0 <= first <= max(end - self._window + 1, 0)

    def remove(self, sequence: int, start: int) -> bool:
        """Forget a sequence from position `start` on. False: this memory cannot drop that tail; nothing was changed."""
        return self.can_end(sequence, start) and bool(
            self._lib["llama_memory_seq_rm"](self._memory, sequence, start, -1)
        )

    def share(self, source: int, target: int, end: int) -> None:
        """Let `target` see the cells of `source` below position `end`."""
        self._lib["llama_memory_seq_cp"](self._memory, source, target, 0, end)

    def save(self, sequence: int, start: int, end: int) -> NDArray[np.uint8] | None:
        """A copy of the KV from position `start` to `end`, in this process's memory. None: there is no memory for it."""
        self._lib["llama_memory_seq_cp"](self._memory, sequence, self._copying, start, end)
        try:
            size: int = self._lib["llama_state_seq_get_size"](self._pointer, self._copying)
            data = np.empty(size, np.uint8)
            written: int = self._lib["llama_state_seq_get_data"](self._pointer, data.ctypes.data, size, self._copying)
            return data if written == size else None
        except MemoryError:
            return None
        finally:
            self.remove(self._copying, 0)

    def load(self, sequence: int, start: int, end: int, data: NDArray[np.uint8]) -> bool:
        """Append what `save` gave, from position `start` to `end` of it, to a sequence. False: no room; nothing was changed."""
        read: int = self._lib["llama_state_seq_set_data"](self._pointer, data.ctypes.data, data.nbytes, self._copying)
        if read == data.nbytes:
            self._lib["llama_memory_seq_cp"](self._memory, self._copying, sequence, start, end)
        self.remove(self._copying, 0)
        return read == data.nbytes

    def last_position(self, sequence: int) -> int:
        """Highest position held, -1 if none."""
        return int(self._lib["llama_memory_seq_pos_max"](self._memory, sequence))

    def close(self) -> None:
        """Free the KV cache. Idempotent."""
        if self._pointer:
            self._lib["llama_free"](self._pointer)
            self._pointer = None
