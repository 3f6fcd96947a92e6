"""A GPT-like decoder in PyTorch: packed attention, and an output head tied to the embedding."""

import numpy as np
import torch
from torch import nn


class MLP(nn.Module):
    """The position-wise feed-forward network of a block."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.fc = nn.Linear(embed_dim, 4 * embed_dim)
        self.proj = nn.Linear(4 * embed_dim, embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(nn.functional.gelu(self.fc(x), approximate="tanh"))


class Block(nn.Module):
    """A pre-LayerNorm transformer block with causal self-attention."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(embed_dim)
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.ln2 = nn.LayerNorm(embed_dim)
        self.mlp = MLP(embed_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        length = x.shape[1]
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        h = self.ln1(x)
        h, _ = self.attn(h, h, h, attn_mask=future, need_weights=False)
        x = x + h
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """A decoder-only language model; ``lm_head.weight`` is ``wte.weight``."""

    def __init__(
        self,
        vocab_size: int = 61,
        max_length: int = 16,
        embed_dim: int = 32,
        num_heads: int = 4,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab_size, embed_dim)
        self.wpe = nn.Embedding(max_length, embed_dim)
        self.blocks = nn.ModuleList([Block(embed_dim, num_heads) for _ in range(num_layers)])
        self.ln_f = nn.LayerNorm(embed_dim)
        self.lm_head = nn.Linear(embed_dim, vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, T) to next-token logits (N, T, vocab_size)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.wte(tokens) + self.wpe(positions)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def make_model() -> GPT:
    """Build the model with its default sizes."""
    return GPT()


def example_input() -> np.ndarray:
    """Two fixed token sequences, int64, (N, T)."""
    return np.random.default_rng(0).integers(61, size=(2, 12), dtype=np.int64)
