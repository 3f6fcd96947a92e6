"""Whole Flax models, linen or nnx, filled from recipes."""

from portinit_flax.initialize import initialize as initialize
from portinit_flax.initialize import match as match
