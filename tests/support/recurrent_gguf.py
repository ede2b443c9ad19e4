"""Writes tiny random-weight models with a recurrent state: nothing but that (Mamba), or beside attention (LFM2)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.support.random_gguf import Value, gguf_bytes, tokenizer_metadata, vocabulary

HIDDEN = 64
HEADS = 2


def write_recurrent_gguf(path: Path) -> Path:
    """A Mamba model of two layers."""
    tokens, metadata = _metadata("mamba")
    inner, states, rank, kernel = 2 * HIDDEN, 8, 4, 4
    metadata |= {
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.ssm.conv_kernel": kernel,
        "mamba.ssm.inner_size": inner,
        "mamba.ssm.state_size": states,
        "mamba.ssm.time_step_rank": rank,
    }
    draw = _Drawn()
    tensors = {
        "token_embd.weight": draw(tokens, HIDDEN, scale=1.0),
        "output_norm.weight": np.ones(HIDDEN, np.float32),
        "output.weight": draw(tokens, HIDDEN),
    }
    for layer in range(2):
        block = f"blk.{layer}."
        tensors[block + "attn_norm.weight"] = np.ones(HIDDEN, np.float32)
        tensors[block + "ssm_in.weight"] = draw(2 * inner, HIDDEN)
        tensors[block + "ssm_conv1d.weight"] = draw(inner, kernel, scale=0.5)
        tensors[block + "ssm_conv1d.bias"] = np.zeros(inner, np.float32)
        tensors[block + "ssm_x.weight"] = draw(rank + 2 * states, inner)
        tensors[block + "ssm_dt.weight"] = draw(inner, rank)
        tensors[block + "ssm_dt.bias"] = np.full(inner, -1.0, np.float32)
        tensors[block + "ssm_a"] = np.tile(np.arange(-1, -states - 1, -1).astype(np.float32), (inner, 1))
        tensors[block + "ssm_d"] = np.ones(inner, np.float32)
        tensors[block + "ssm_out.weight"] = draw(HIDDEN, inner)
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def write_hybrid_gguf(path: Path) -> Path:
    """An LFM2 model of a convolution, which is recurrent, and an attention layer."""
    tokens, metadata = _metadata("lfm2")
    kernel = 3
    metadata |= {
        "lfm2.feed_forward_length": 2 * HIDDEN,
        "lfm2.attention.head_count": HEADS,
        "lfm2.attention.head_count_kv": [0, HEADS],
        "lfm2.rope.freq_base": 10000.0,
        "lfm2.shortconv.l_cache": kernel,
        "lfm2.vocab_size": tokens,
    }
    draw = _Drawn()
    tensors = {
        "token_embd.weight": draw(tokens, HIDDEN, scale=1.0),
        "token_embd_norm.weight": np.ones(HIDDEN, np.float32),
        "output.weight": draw(tokens, HIDDEN),
        "blk.0.shortconv.conv.weight": draw(HIDDEN, kernel, scale=0.5),
        "blk.0.shortconv.in_proj.weight": draw(3 * HIDDEN, HIDDEN),
        "blk.0.shortconv.out_proj.weight": draw(HIDDEN, HIDDEN),
        "blk.1.attn_q_norm.weight": np.ones(HIDDEN // HEADS, np.float32),
        "blk.1.attn_k_norm.weight": np.ones(HIDDEN // HEADS, np.float32),
    }
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        tensors[f"blk.1.{name}.weight"] = draw(HIDDEN, HIDDEN)
    for layer in range(2):
        block = f"blk.{layer}."
        tensors[block + "attn_norm.weight"] = np.ones(HIDDEN, np.float32)
        tensors[block + "ffn_norm.weight"] = np.ones(HIDDEN, np.float32)
        tensors[block + "ffn_gate.weight"] = draw(2 * HIDDEN, HIDDEN)
        tensors[block + "ffn_up.weight"] = draw(2 * HIDDEN, HIDDEN)
        tensors[block + "ffn_down.weight"] = draw(HIDDEN, 2 * HIDDEN)
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


class _Drawn:
    """Random weights, always the same."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def __call__(self, rows: int, columns: int, scale: float = 0.2) -> NDArray[np.float32]:
        return (self._random.standard_normal((rows, columns)) * scale).astype(np.float32)


def _metadata(architecture: str) -> tuple[int, dict[str, Value]]:
    tokens, kinds, merges = vocabulary()
    return len(tokens), {
        "general.architecture": architecture,
        "general.name": f"random, {architecture}",
        f"{architecture}.context_length": 4096,
        f"{architecture}.embedding_length": HIDDEN,
        f"{architecture}.block_count": 2,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-6,
        **tokenizer_metadata(tokens, kinds, merges),
    }
