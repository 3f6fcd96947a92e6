"""Replay of the program of a traced constructor on PyTorch's generator."""
