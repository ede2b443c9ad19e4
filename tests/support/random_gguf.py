"""Writes a tiny random-weight ChatML model as GGUF: deterministic, with numpy alone, in milliseconds.

    header · metadata (key, type, value)* · tensor infos (name, shape, type, offset)* · padding · tensor data

The vocabulary has the 256 byte symbols, merges for a few words, and the ChatML and Qwen markers with their real kinds.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
WORDS = ("the", "and", "file", "read", "return", "value", "error", "name", "arguments", "true", "false", "null", "path")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

_UINT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _INT32 = 4, 6, 7, 8, 9, 5  # gguf_type
_NORMAL_TOKEN, _CONTROL_TOKEN, _USER_DEFINED_TOKEN = 1, 3, 4
_F32 = 0  # ggml_type
_ALIGNMENT = 32

Value = int | float | bool | str | list[str] | list[int]


def byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def vocabulary(
    extra_tokens: int = 0, control: Sequence[str] = CONTROL, user_defined: Sequence[str] = USER_DEFINED
) -> tuple[list[str], list[int], list[str]]:
    """Tokens, their kinds, and the merges. `extra_tokens` pads the vocabulary with tokens no text reaches."""
    tokens = list(byte_symbols().values())
    merges: list[str] = []
    for word in (*WORDS, *("Ġ" + word for word in WORDS)):
        for end in range(1, len(word)):
            if word[: end + 1] not in tokens:
                tokens.append(word[: end + 1])
                merges.append(f"{word[:end]} {word[end]}")
    tokens += [f"Ġunused{n}x" for n in range(extra_tokens)]
    kinds = [_NORMAL_TOKEN] * len(tokens) + [_CONTROL_TOKEN] * len(control) + [_USER_DEFINED_TOKEN] * len(user_defined)
    return [*tokens, *control, *user_defined], kinds, merges


def write_random_gguf(
    path: Path,
    *,
    seed: int = 0,
    context: int = 4096,
    extra_tokens: int = 0,
    hidden: int = 64,
    layers: int = 2,
    heads: int = 2,
    template: str = TEMPLATE,
    control: Sequence[str] = CONTROL,
    user_defined: Sequence[str] = USER_DEFINED,
) -> Path:
    """A Llama-architecture model with random f32 weights; the same arguments give the same bytes.

    An empty `template` is left out. Of the `control` tokens the first begins a text, the last ends an output.
    """
    tokens, kinds, merges = vocabulary(extra_tokens, control, user_defined)
    head_size = hidden // heads
    metadata: dict[str, Value] = {
        "general.architecture": "llama",
        "general.name": "random",
        "llama.context_length": context,
        "llama.embedding_length": hidden,
        "llama.block_count": layers,
        "llama.feed_forward_length": 2 * hidden,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": heads,
        "llama.rope.dimension_count": head_size,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": 1e-6,
        "llama.vocab_size": len(tokens),
        **tokenizer_metadata(tokens, kinds, merges, eos=control[-1]),
        "tokenizer.ggml.bos_token_id": tokens.index(control[0]),
    }
    if template:
        metadata["tokenizer.chat_template"] = template
    tensors = _weights(np.random.default_rng(seed), len(tokens), hidden, layers)
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def tokenizer_metadata(
    tokens: list[str], kinds: list[int], merges: list[str], *, eos: str = CONTROL[-1]
) -> dict[str, Value]:
    """What a file says of such a vocabulary."""
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokens.index(eos),
        "tokenizer.ggml.add_bos_token": False,
    }


def write_sliding_gguf(path: Path, *, window: int = 64) -> Path:
    """A Gemma 2 model with random weights: every other layer attends to the last `window` tokens only."""
    tokens, kinds, merges = vocabulary()
    hidden, layers, heads = 64, 2, 2
    metadata: dict[str, Value] = {
        "general.architecture": "gemma2",
        "general.name": "random, sliding",
        "gemma2.context_length": 4096,
        "gemma2.embedding_length": hidden,
        "gemma2.block_count": layers,
        "gemma2.feed_forward_length": 2 * hidden,
        "gemma2.attention.head_count": heads,
        "gemma2.attention.head_count_kv": heads,
        "gemma2.attention.key_length": hidden // heads,
        "gemma2.attention.value_length": hidden // heads,
        "gemma2.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma2.attention.sliding_window": window,
        "gemma2.attn_logit_softcapping": 50.0,
        "gemma2.final_logit_softcapping": 30.0,
        **tokenizer_metadata(tokens, kinds, merges),
    }
    tensors = _weights(np.random.default_rng(0), len(tokens), hidden, layers)
    del tensors["output.weight"]  # it is the embedding's
    for layer in range(layers):
        for name in ("post_attention_norm", "post_ffw_norm"):
            tensors[f"blk.{layer}.{name}.weight"] = np.ones(hidden, np.float32)
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def _weights(
    random: np.random.Generator, vocabulary_size: int, hidden: int, layers: int
) -> dict[str, NDArray[np.float32]]:
    def normal(rows: int, columns: int, scale: float) -> NDArray[np.float32]:
        return (random.standard_normal((rows, columns)) * scale).astype(np.float32)

    ones = np.ones(hidden, np.float32)
    tensors = {
        "token_embd.weight": normal(vocabulary_size, hidden, 1.0),
        "output_norm.weight": ones,
        "output.weight": normal(vocabulary_size, hidden, 0.2),
    }
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors[block + "attn_norm.weight"] = ones
        tensors[block + "ffn_norm.weight"] = ones
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{name}.weight"] = normal(hidden, hidden, 0.2)
        tensors[block + "ffn_gate.weight"] = normal(2 * hidden, hidden, 0.1)
        tensors[block + "ffn_up.weight"] = normal(2 * hidden, hidden, 0.1)
        tensors[block + "ffn_down.weight"] = normal(hidden, 2 * hidden, 0.1)
    return tensors


def gguf_bytes(metadata: dict[str, Value], tensors: dict[str, NDArray[np.float32]]) -> bytes:
    """The file of a model."""
    out = bytearray(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        out += _string(key) + _value(value)
    offset = 0
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]  # ggml counts the fastest dimension first
        out += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, offset)
        offset += _padded(tensor.nbytes)
    out += bytes(_padded(len(out)) - len(out))
    for tensor in tensors.values():
        out += tensor.tobytes() + bytes(_padded(tensor.nbytes) - tensor.nbytes)
    return bytes(out)


def _padded(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<IB", _BOOL, value)
        case int():
            return struct.pack("<II", _UINT32, value)
        case float():
            return struct.pack("<If", _FLOAT32, value)
        case str():
            return struct.pack("<I", _STRING) + _string(value)
        case list():
            return struct.pack("<I", _ARRAY) + _array(value)


def _array(values: "list[str] | list[int]") -> bytes:
    kind = _STRING if isinstance(values[0], str) else _INT32
    body = b"".join(_string(value) if isinstance(value, str) else struct.pack("<i", value) for value in values)
    return struct.pack("<IQ", kind, len(values)) + body
