"""jax.nn.initializers, from portinit's stream: ``from portinit_jax import initializers``."""

from portinit_jax import initializers as initializers
