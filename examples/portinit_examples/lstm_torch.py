"""An LSTM text classifier in PyTorch."""

import numpy as np
import torch
from torch import nn


class LSTMClassifier(nn.Module):
    """Embedding, stacked LSTM, and a linear head on the last output; token 0 is padding."""

    def __init__(
        self,
        vocab_size: int = 50,
        embed_dim: int = 12,
        hidden_size: int = 16,
        num_layers: int = 2,
        num_classes: int = 3,
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embed_dim, padding_idx=0)
        self.lstm = nn.LSTM(embed_dim, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map tokens (N, T), padded on the left, to logits (N, num_classes)."""
        outputs, _ = self.lstm(self.embed(tokens))
        return self.head(outputs[:, -1])


def make_model() -> LSTMClassifier:
    """Build the model with its default sizes."""
    return LSTMClassifier()


def example_input() -> np.ndarray:
    """Two fixed token sequences, int64, (N, T); the second is padded on the left."""
    tokens = np.random.default_rng(0).integers(1, 50, size=(2, 9), dtype=np.int64)
    tokens[1, :3] = 0
    return tokens
