"""Writes the trained model as GGUF into the package, with the fingerprint of what it was trained on.

`python export.py` reads `runs/tiny/`; both files are replaced at once or not at all. `agreement.py` then compares the two
models token by token.
"""

import argparse
import json
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from chatml import CONTROL_TOKENS, MARKER_TOKENS
from fingerprint import fingerprints
from model import Shape
from template import TEMPLATE

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1] / "src" / "hotloop" / "tiny"
MAX_BYTES = 6_000_000
_BLOCK_NAMES = {
    "attention_norm": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "q_norm": "attn_q_norm",
    "k_norm": "attn_k_norm", "out": "attn_output", "feed_norm": "ffn_norm", "gate": "ffn_gate", "up": "ffn_up",
    "down": "ffn_down",
}  # fmt: skip


def write_gguf(run: Path, target: Path) -> None:
    """Write one GGUF: half precision, norms in full; the output matrix is the embedding, as Qwen3 allows."""
    saved: dict[str, Any] = torch.load(run / "model.pt", map_location="cpu")
    shape = Shape(**saved["shape"])
    writer = gguf.GGUFWriter(target, "qwen3")
    _write_sizes(writer, shape)
    _write_tokenizer(writer, json.loads((run / "tokenizer.json").read_text()), shape)
    for name, weight in saved["weights"].items():
        values = weight.float().numpy()
        writer.add_tensor(_tensor_name(name), values if values.ndim == 1 else values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("hotloop-tiny")
    writer.add_license("Apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)


def _write_tokenizer(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], shape: Shape) -> None:
    ids = dict(tokenizer["model"]["vocab"]) | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    names = {number: name for name, number in ids.items()}
    assert len(names) == shape.vocabulary, (len(names), shape.vocabulary)
    kinds = dict.fromkeys(CONTROL_TOKENS, gguf.TokenType.CONTROL) | dict.fromkeys(
        MARKER_TOKENS, gguf.TokenType.USER_DEFINED
    )
    tokens = [names[number] for number in range(len(names))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([kinds.get(name, gguf.TokenType.NORMAL) for name in tokens])
    writer.add_token_merges(
        [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    )
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def _tensor_name(name: str) -> str:
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, number, part, _ = name.split(".")
    return f"blk.{number}.{_BLOCK_NAMES[part]}.weight"


def main() -> None:
    """Export, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=HERE / "runs" / "tiny")
    parser.add_argument("--target", type=Path, default=PACKAGE)
    options = parser.parse_args()
    options.target.mkdir(parents=True, exist_ok=True)
    draft = options.target / ".tiny.gguf.part"
    write_gguf(options.run, draft)
    size = draft.stat().st_size
    assert size <= MAX_BYTES, f"{size} bytes are too many for the package"
    os.replace(draft, options.target / "tiny.gguf")
    fingerprint = options.target / ".contract.json.part"
    fingerprint.write_text(json.dumps(fingerprints(), indent=2) + "\n")
    os.replace(fingerprint, options.target / "contract.json")
    print(f"{options.target / 'tiny.gguf'}: {size} bytes")


if __name__ == "__main__":
    main()
