"""What a traced constructor computed, replayed on PyTorch's generator."""
