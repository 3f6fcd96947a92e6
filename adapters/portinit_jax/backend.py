"""What the core asks of JAX: keys, one compiled computation a call, placement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding

from portinit.arrays.dtypes import dtype_name, float_format
from portinit.arrays.grids import Grid
from portinit.backends.base import Backend, Draw, Evaluable, Words, key_words
from portinit.backends.linalg import orthonormal
from portinit.random.keys import Key
from portinit.sampling.transform import Transform
from portinit_jax import host
from portinit_jax.blocks import block_of
from portinit_jax.fused import fused
from portinit_jax.programs import run, single


class JaxBackend(Backend):
    """JAX arrays, traced or not; a call is one jitted computation, or NumPy's on the host."""

    cuts = False  # what is cut or joined along a sharded axis is sent between devices

    def default_dtype(self) -> str:
        return dtype_name(jnp.result_type(float))

    def native_dtype(self, name: str) -> Any:
        return jnp.dtype(name)

    def words(self, key: Any) -> Words:
        if isinstance(key, Key) or not isinstance(key, jax.Array):
            high, low = key_words(key)
            return _signed(high), _signed(low)
        data = key_data(key)
        if _is_at_hand(data):
            high, low = np.asarray(data).view(np.int32)
            return high, low
        data = lax.bitcast_convert_type(data, jnp.int32)
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

    def fused(self, draw: Draw, steps: Transform | None, stream: int = 0) -> Any:
        return fused(draw, steps, stream)

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
        return 1 << 20

    def by_rows(
        self, find: Callable[[Grid], tuple[Any, ...]], grid: Grid, rows: int, threads: int
    ) -> list[tuple[Any, ...]]:
        length, width = grid.array_shape
        if length <= rows:
            return [find(grid)]

        def part(start: Any) -> tuple[Any, ...]:
            return find(block_of(grid, (start, 0), (rows, width)))

        found = lax.map(part, jnp.arange(0, length, rows, dtype=jnp.int32))
        return [tuple(values.reshape(-1)[:length] for values in found)]

    def run(self, initializer: Evaluable, draw: Draw, out_sharding: Any = None) -> Any:
        self.require_width(draw.dtype)
        if initializer.hosted:
            values = initializer.values(draw)
            return values if out_sharding is None else _resharded(values, out_sharding)
        if out_sharding is None:
            values = host.made(initializer, draw.grid, draw.dtype, draw.key)
            if values is not None:
                return values
        sharding = None if out_sharding is None else _as_jax_does(draw.grid, out_sharding)
        return run(self, single(initializer, draw.grid, draw.dtype, sharding), draw.key)

    def require_width(self, dtype: str) -> None:
        """A TypeError for a dtype that needs 64-bit mode where that is off."""
        if float_format_bits(dtype) == 64 and jnp.result_type(float) != jnp.float64:
            raise TypeError(
                f"{dtype} in JAX needs 64-bit mode: jax.config.update('jax_enable_x64', True)"
            )


def _as_jax_does(grid: Grid, out_sharding: Any) -> NamedSharding:
    """What ``out_sharding`` means to JAX's own initializers, with JAX's errors."""
    given = partial(_resharded, out_sharding=out_sharding)
    spec = jax.eval_shape(lambda: given(jnp.zeros(grid.array_shape))).sharding.spec
    named = isinstance(out_sharding, NamedSharding)
    return NamedSharding(out_sharding.mesh if named else jax.sharding.get_abstract_mesh(), spec)


def _resharded(values: Any, out_sharding: Any) -> Any:
    return jax.sharding.reshard(values, out_sharding)  # type: ignore[no-untyped-call]


def float_format_bits(dtype: str) -> int:
    """The sampling width of a dtype; 32 for those that are not drawn."""
    try:
        return float_format(dtype).bits
    except TypeError:
        return 32


def _is_at_hand(data: jax.Array) -> bool:
    """Whether an array can be read without waiting for a device, and has no say where results go.

    Of an array that was put on a device, what is computed with it follows it there.
    """
    if isinstance(data, jax.core.Tracer) or data.committed:
        return False
    return all(device.platform == "cpu" for device in data.devices())


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
