"""Flax's recurrent cells: their gates, and the names that translate them to PyTorch's layers."""

from portinit_flax.recurrent.cells import cells_of as cells_of
from portinit_flax.recurrent.recurrent import recurrent_names as recurrent_names
from portinit_flax.recurrent.recurrent import recurrent_parameters as recurrent_parameters
