"""A small Llama in PyTorch, named as Hugging Face names it, of sizes that divide unevenly."""

import numpy as np
import torch
from torch import nn

NUM_LAYERS = 3


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, dim: int, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.q_proj = nn.Linear(dim, num_heads * head_dim, bias=False)
        self.k_proj = nn.Linear(dim, num_kv_heads * head_dim, bias=False)
        self.v_proj = nn.Linear(dim, num_kv_heads * head_dim, bias=False)
        self.o_proj = nn.Linear(num_heads * head_dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self._heads(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        attended = nn.functional.scaled_dot_product_attention(
            rotate(query), rotate(key), value, is_causal=True, enable_gqa=True
        )
        return self.o_proj(attended.transpose(1, 2).flatten(2))

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        """(N, T, heads * size) as (N, heads, T, size); a rank may have some of the heads."""
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def rotate(x: torch.Tensor, base: float = 10000.0) -> torch.Tensor:
    """Turn element i of a head, with element i + size / 2, by position * base^(-2 i / size)."""
    length, size = x.shape[-2:]
    frequencies = base ** -(torch.arange(0, size, 2, device=x.device) / size)
    angles = torch.arange(length, device=x.device)[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x))."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, heads: tuple[int, int, int], hidden_dim: int) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(dim, eps=1e-6)
        self.self_attn = Attention(dim, *heads)
        self.post_attention_layernorm = nn.RMSNorm(dim, eps=1e-6)
        self.mlp = MLP(dim, hidden_dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    """A decoder-only language model.

    Args:
        vocab_size: the number of tokens.
        dim: the width of the residual stream.
        heads: query heads, key and value heads, and the size of a head.
        hidden_dim: the width of the feed-forward network.
        num_layers: the number of blocks.
    """

    def __init__(
        self,
        vocab_size: int = 101,
        dim: int = 33,
        heads: tuple[int, int, int] = (6, 2, 6),
        hidden_dim: int = 50,
        num_layers: int = NUM_LAYERS,
    ) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList([Block(dim, heads, hidden_dim) for _ in range(num_layers)])
        self.norm = nn.RMSNorm(dim, eps=1e-6)
        self.lm_head = nn.Linear(dim, vocab_size, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, T) to next-token logits (N, T, vocab_size)."""
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


def make_model() -> Llama:
    """Build the model with its default sizes."""
    return Llama()


def example_input() -> np.ndarray:
    """Two fixed token sequences, int64, (N, T)."""
    return np.random.default_rng(0).integers(101, size=(2, 12), dtype=np.int64)
