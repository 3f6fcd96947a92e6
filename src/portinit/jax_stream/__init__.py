"""What JAX itself gives: the values of jax.nn.initializers, and the keys Flax hands to them.

portinit's own stream is the same in every framework; JAX's is JAX's. This package repeats JAX's in
NumPy and PyTorch, rounding by rounding, so that a Flax model's own ``init(jax.random.key(0), x)``
can be had without JAX.
"""

from portinit.jax_stream.flax_keys import linen_key as linen_key
from portinit.jax_stream.flax_keys import linen_keys as linen_keys
from portinit.jax_stream.flax_keys import nnx_key as nnx_key
from portinit.jax_stream.flax_keys import nnx_keys as nnx_keys
from portinit.jax_stream.initializer import like_jax as like_jax
