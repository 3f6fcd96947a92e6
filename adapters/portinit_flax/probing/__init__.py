"""The sizes of a Flax model's activations and gradients."""

from portinit_flax.probing.probing import probe as probe
