"""Flax's recurrent cells: their gates, and the names that translate them to PyTorch's layers."""

from portinit_flax.recurrent.recurrent import names_of_cells as names_of_cells
from portinit_flax.recurrent.recurrent import recurrent_names as recurrent_names
from portinit_flax.recurrent.recurrent import recurrent_parameters as recurrent_parameters
