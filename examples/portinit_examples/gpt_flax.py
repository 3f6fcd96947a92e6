"""The Flax (nnx) twin of ``gpt_torch``."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

NUM_LAYERS = 2


class Attention(nnx.Module):
    """Causal self-attention with query, key and value packed into one projection."""

    def __init__(self, embed_dim: int, num_heads: int, *, rngs: nnx.Rngs) -> None:
        heads = (num_heads, embed_dim // num_heads)
        self.in_proj = nnx.LinearGeneral(embed_dim, (3, *heads), rngs=rngs)
        self.out_proj = nnx.LinearGeneral(heads, embed_dim, axis=(-2, -1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        query, key, value = jnp.moveaxis(self.in_proj(x), -3, 0)
        mask = nnx.make_causal_mask(x[..., 0])
        return self.out_proj(nnx.dot_product_attention(query, key, value, mask=mask))


class MLP(nnx.Module):
    """The position-wise feed-forward network of a block."""

    def __init__(self, embed_dim: int, *, rngs: nnx.Rngs) -> None:
        self.fc = nnx.Linear(embed_dim, 4 * embed_dim, rngs=rngs)
        self.proj = nnx.Linear(4 * embed_dim, embed_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.proj(nnx.gelu(self.fc(x), approximate=True))


class Block(nnx.Module):
    """A pre-LayerNorm transformer block with causal self-attention."""

    def __init__(self, embed_dim: int, num_heads: int, *, rngs: nnx.Rngs) -> None:
        self.ln1 = nnx.LayerNorm(embed_dim, epsilon=1e-5, rngs=rngs)
        self.attn = Attention(embed_dim, num_heads, rngs=rngs)
        self.ln2 = nnx.LayerNorm(embed_dim, epsilon=1e-5, rngs=rngs)
        self.mlp = MLP(embed_dim, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nnx.Module):
    """A decoder-only language model; the output head is ``wte`` again, by ``attend``."""

    def __init__(
        self,
        vocab_size: int = 61,
        max_length: int = 16,
        embed_dim: int = 32,
        num_heads: int = 4,
        num_layers: int = NUM_LAYERS,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.wte = nnx.Embed(vocab_size, embed_dim, rngs=rngs)
        self.wpe = nnx.Embed(max_length, embed_dim, rngs=rngs)
        self.blocks = nnx.List([Block(embed_dim, num_heads, rngs=rngs) for _ in range(num_layers)])
        self.ln_f = nnx.LayerNorm(embed_dim, epsilon=1e-5, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens (N, T) to next-token logits (N, T, vocab_size)."""
        x = self.wte(tokens) + self.wpe(jnp.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.wte.attend(self.ln_f(x))


def make_model() -> GPT:
    """Build the model with its default sizes."""
    return GPT(rngs=nnx.Rngs(0))


def example_input() -> np.ndarray:
    """Two fixed token sequences, int32, (N, T); the numbers of ``gpt_torch.example_input``."""
    return np.random.default_rng(0).integers(61, size=(2, 12), dtype=np.int64).astype(np.int32)
