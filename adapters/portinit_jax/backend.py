"""What the core asks of JAX: keys, one compiled computation a call, placement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from portinit.backends import Backend, Draw, Evaluable, Words, key_words, orthonormal
from portinit.dtypes import dtype_name, float_format
from portinit.keys import Key


class JaxBackend(Backend):
    """JAX arrays, traced or not; every call is one jitted computation."""

    def default_dtype(self) -> str:
        return dtype_name(jnp.result_type(float))

    def native_dtype(self, name: str) -> Any:
        return jnp.dtype(name)

    def words(self, key: Any) -> Words:
        if isinstance(key, Key) or not isinstance(key, jax.Array):
            high, low = key_words(key)
            return _signed(high), _signed(low)
        data = lax.bitcast_convert_type(key_data(key), jnp.int32)
        return data[0], data[1]

    def known_words(self, words: Words) -> tuple[int, int]:
        if any(isinstance(word, jax.core.Tracer) for word in words):
            raise TypeError(
                "an expression is computed in NumPy and needs a key whose words are known; "
                "got a traced key: call it outside of jit"
            )
        return int(words[0]), int(words[1])

    def cast(self, x: Any, dtype: str) -> Any:
        native = jnp.dtype(dtype)
        if native.itemsize >= x.dtype.itemsize:
            return x.astype(native)
        # XLA may drop a rounding when the caller widens the result again in the same
        # computation (xla_allow_excess_precision); it cannot see through the bits.
        bits = lax.bitcast_convert_type(x.astype(native), f"uint{8 * native.itemsize}")
        return lax.bitcast_convert_type(bits, native)

    def seal(self, x: Any) -> Any:
        # XLA could fuse the last multiplication with a caller's addition, which rounds otherwise.
        # A maximum in between, which changes nothing, prevents it.
        return lax.max(x, -jnp.finfo(x.dtype).max)  # type: ignore[no-untyped-call]

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        return lax.complex(real, imag)

    def orthonormal(self, matrix: Any, gain: float) -> Any:
        # Single precision is not enough: a square Gaussian matrix is ill-conditioned.
        with jax.enable_x64(True):
            return orthonormal(jnp, matrix, gain, jnp.dtype)

    def kth_smallest(self, rows: Callable[[], Any], k: int) -> tuple[Any, Any]:
        x = rows()
        columns = lax.broadcasted_iota(jnp.int32, x.shape, 1)
        words, columns = lax.sort((x, columns), dimension=1, num_keys=2)
        return words[:, k - 1], columns[:, k - 1]

    def tile(self, draw: Draw) -> int:
        return max(1, draw.grid.size)  # one computation

    def run(self, initializer: Evaluable, draw: Draw, out_sharding: Any = None) -> Any:
        if float_format_bits(draw.dtype) == 64 and jnp.result_type(float) != jnp.float64:
            raise TypeError(
                f"{draw.dtype} in JAX needs 64-bit mode: jax.config.update('jax_enable_x64', True)"
            )
        if initializer.hosted:
            return initializer.values(draw)
        high, low = draw.key
        return _run(
            _Static(initializer, repr(initializer)), draw.grid, draw.dtype, out_sharding, high, low
        )


def float_format_bits(dtype: str) -> int:
    """The sampling width of a dtype; 32 for those that are not drawn."""
    try:
        return float_format(dtype).bits
    except TypeError:
        return 32


@dataclass(frozen=True)
class _Static:
    """An initializer as a cache key; its text tells -0.0 from 0.0, which are equal."""

    initializer: Evaluable
    text: str


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _run(static: _Static, grid: Any, dtype: str, out_sharding: Any, high: Any, low: Any) -> Any:
    values = static.initializer.values(Draw(BACKEND, (high, low), grid, dtype))
    if out_sharding is None:
        return values
    return jax.sharding.reshard(values, out_sharding)  # type: ignore[no-untyped-call]


def _signed(word: int) -> Any:
    return np.uint32(word).view(np.int32)  # JAX's own scalars take 100 microseconds each


def key_data(key: jax.Array) -> jax.Array:
    """The uint32 words of a typed or raw key, checked."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        impl = str(jax.random.key_impl(key))
        if "threefry" not in impl and "fry" not in impl:
            raise TypeError(
                "a key must be a threefry2x32 key, whose bits are the same on every platform; "
                f"got one of {impl}. Convert it: "
                "jax.random.wrap_key_data(jax.random.bits(key, (2,)), impl='threefry2x32')"
            )
        key = jax.random.key_data(key)
    if key.dtype != jnp.uint32 or key.shape != (2,):
        raise TypeError(
            "a key must be a single JAX key, typed or raw uint32 of shape (2,); "
            f"got dtype {key.dtype}, shape {key.shape}"
        )
    return key


BACKEND = JaxBackend(jnp)
