"""The sizes of a Flax model's activations and gradients."""

from portinit_flax.probing.probing import own_variables as own_variables
from portinit_flax.probing.probing import probe as probe
