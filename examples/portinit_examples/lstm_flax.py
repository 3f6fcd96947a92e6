"""The Flax (linen) twin of ``lstm_torch``.

Flax's own LSTM cells keep one bias for each gate where PyTorch keeps two, drawn separately. The
``LSTM`` here holds both, and its parameters have PyTorch's names, shapes and gate order.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn


class LSTM(nn.Module):
    """A stacked LSTM like ``torch.nn.LSTM(batch_first=True)``, from zero states."""

    hidden_size: int
    num_layers: int = 1

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Map inputs (N, T, I) to the last layer's outputs (N, T, hidden_size)."""
        for layer in range(self.num_layers):
            x = self._layer(x, layer)
        return x

    def _layer(self, x: jax.Array, layer: int) -> jax.Array:
        size = self.hidden_size
        weight_init = nn.initializers.lecun_normal(in_axis=-1, out_axis=-2)
        bias_init = nn.initializers.zeros_init()
        dtype = jnp.float32
        weight_ih = self.param(f"weight_ih_l{layer}", weight_init, (4 * size, x.shape[-1]), dtype)
        weight_hh = self.param(f"weight_hh_l{layer}", weight_init, (4 * size, size), dtype)
        bias_ih = self.param(f"bias_ih_l{layer}", bias_init, (4 * size,), dtype)
        bias_hh = self.param(f"bias_hh_l{layer}", bias_init, (4 * size,), dtype)

        def step(
            carry: tuple[jax.Array, jax.Array], gates_x: jax.Array
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            h, c = carry
            i, f, g, o = jnp.split(gates_x + h @ weight_hh.T + bias_hh, 4, axis=-1)
            c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
            h = nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        # The inputs' share of the gates does not depend on the state: one product for all steps.
        gates_x = jnp.swapaxes(x @ weight_ih.T + bias_ih, 0, 1)
        zeros = jnp.zeros((x.shape[0], size), gates_x.dtype)
        _, outputs = jax.lax.scan(step, (zeros, zeros), gates_x)
        return jnp.swapaxes(outputs, 0, 1)


class LSTMClassifier(nn.Module):
    """Embedding, stacked LSTM, and a linear head on the last output; token 0 is padding."""

    vocab_size: int = 50
    embed_dim: int = 12
    hidden_size: int = 16
    num_layers: int = 2
    num_classes: int = 3

    def setup(self) -> None:
        self.embed = nn.Embed(self.vocab_size, self.embed_dim)
        self.lstm = LSTM(self.hidden_size, self.num_layers)
        self.head = nn.Dense(self.num_classes)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Map tokens (N, T), padded on the left, to logits (N, num_classes)."""
        return self.head(self.lstm(self.embed(tokens))[:, -1])


def make_model() -> LSTMClassifier:
    """Build the model with its default sizes."""
    return LSTMClassifier()


def example_input() -> np.ndarray:
    """Two fixed token sequences, int32, (N, T); the numbers of ``lstm_torch.example_input``."""
    tokens = np.random.default_rng(0).integers(1, 50, size=(2, 9), dtype=np.int64)
    tokens[1, :3] = 0
    return tokens.astype(np.int32)
