"""portinit in JAX: ``jax.nn.initializers`` from portinit's stream, and parts of parameters."""

from portinit_jax import initializers as initializers
from portinit_jax.sharded import block as block
from portinit_jax.sharded import sharded as sharded
