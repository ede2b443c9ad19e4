"""A small Qwen3-shaped transformer, written so that llama.cpp runs the same numbers.

Many conversations begin with the same system message. `forward` takes it once for the whole batch: its keys and values
are computed in one row and shown to all rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the model; exported as the metadata of the GGUF."""

    vocabulary: int = 1024
    width: int = 160
    layers: int = 4
    heads: int = 5
    head_width: int = 32
    feed_forward: int = 512
    context: int = 4096
    rope_base: float = 10000.0
    epsilon: float = 1e-6


def _rotations(shape: Shape, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    frequencies = shape.rope_base ** (-torch.arange(0, shape.head_width, 2, device=device) / shape.head_width)
    angles = torch.outer(torch.arange(length, device=device), frequencies)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    one, two = x.chunk(2, -1)
    return torch.cat((one * cos - two * sin, two * cos + one * sin), -1)


class Block(nn.Module):
    """Attention with normed queries and keys, then SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.heads * shape.head_width
        self.shape = shape
        self.attention_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.q = nn.Linear(shape.width, inner, bias=False)
        self.k = nn.Linear(shape.width, inner, bias=False)
        self.v = nn.Linear(shape.width, inner, bias=False)
        self.q_norm = nn.RMSNorm(shape.head_width, shape.epsilon)
        self.k_norm = nn.RMSNorm(shape.head_width, shape.epsilon)
        self.out = nn.Linear(inner, shape.width, bias=False)
        self.feed_norm = nn.RMSNorm(shape.width, shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of rows (B, T, width) as (B, heads, T, head_width), rotated."""
        x = self.attention_norm(x)
        parts = [layer(x).unflatten(-1, (self.shape.heads, -1)) for layer in (self.q, self.k, self.v)]
        q, k = self.q_norm(parts[0]).transpose(1, 2), self.k_norm(parts[1]).transpose(1, 2)
        return _rotate(q, cos, sin), _rotate(k, cos, sin), parts[2].transpose(1, 2)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found, then the feed-forward part."""
        x = x + self.out(attended.transpose(1, 2).flatten(-2))
        y = self.feed_norm(x)
        return x + self.down(functional.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    """Token ids in, logits out; input and output embeddings are one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, shape.epsilon)
        nn.init.normal_(self.embedding.weight, std=0.05)
        for name, weight in self.named_parameters():
            if name.endswith(("out.weight", "down.weight")):
                nn.init.normal_(weight, std=0.02 / (2 * shape.layers) ** 0.5)
            elif weight.dim() == 2 and "embedding" not in name:
                nn.init.normal_(weight, std=shape.width**-0.5 * 0.5)

    def forward(self, rows: Tensor, prefix: Tensor | None = None) -> Tensor:
        """Hidden states (B, T, width) of rows (B, T) that all follow the prefix (P,); `logits` makes scores of them."""
        if prefix is None:
            cos, sin = _rotations(self.shape, rows.shape[1], rows.device)
            x = self.embedding(rows)
            for block in self.blocks:
                q, k, v = block.project(x, cos, sin)
                x = block.finish(x, functional.scaled_dot_product_attention(q, k, v, is_causal=True))
            return self.norm(x)
        return self._after_prefix(rows, prefix)

    def _after_prefix(self, rows: Tensor, prefix: Tensor) -> Tensor:
        count, length = rows.shape
        begin = prefix.shape[0]
        cos, sin = _rotations(self.shape, begin + length, rows.device)
        sees = torch.ones(length, begin + length, dtype=torch.bool, device=rows.device).tril(begin)
        x, y = self.embedding(rows), self.embedding(prefix)[None]
        for block in self.blocks:
            q, k, v = block.project(x, cos[begin:], sin[begin:])
            pq, pk, pv = block.project(y, cos[:begin], sin[:begin])
            k = torch.cat((pk.expand(count, -1, -1, -1), k), 2)
            v = torch.cat((pv.expand(count, -1, -1, -1), v), 2)
            x = block.finish(x, functional.scaled_dot_product_attention(q, k, v, attn_mask=sees))
            y = block.finish(y, functional.scaled_dot_product_attention(pq, pk, pv, is_causal=True))
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary."""
        return functional.linear(hidden, self.embedding.weight)
