"""Whole Flax models filled from recipes."""
