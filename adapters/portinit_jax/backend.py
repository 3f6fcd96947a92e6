"""The backend of JAX's arrays: keys, one compiled computation a call, placement."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding

from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid, place
from portinit.backends.base import Backend, Request, UnknownWordsError, Words, key_words
from portinit.backends.plan import Hosted, Plan, is_hosted
from portinit.random.keys import Key
from portinit.sampling.transform import Transform
from portinit_jax.counters import flat_counters
from portinit_jax.host import make_on_host
from portinit_jax.host_call.primitive import kernel_values
from portinit_jax.programs import run, single
from portinit_jax.quantile import quantile

_DOUBLE = frozenset({"float64", "complex128"})


class JaxBackend(Backend):
    """JAX arrays, traced or not; a call is one jitted computation, or NumPy's on the host."""

    quantile = staticmethod(quantile)
    can_slice = False  # what is cut or joined along a sharded axis is sent between devices

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
            raise UnknownWordsError(
                "a key must be one whose words are known, got a traced key: call it outside of "
                "jax.jit, or with a portinit.Key"
            )
        return super().known_words(words)

    def counters(self, request: Request) -> tuple[Any, Any]:
        low = flat_counters(request.grid)
        return super().counters(request) if low is None else (0, low)

    def cast(self, x: Any, dtype: str) -> Any:
        native = jnp.dtype(dtype)
        if native.itemsize >= x.dtype.itemsize:
            return x.astype(native)
        # XLA may drop a rounding when the caller widens the result again in the same
        # computation (xla_allow_excess_precision); it cannot see through the bits.
        bits = lax.bitcast_convert_type(x.astype(native), f"uint{8 * native.itemsize}")
        return lax.bitcast_convert_type(bits, native)

    def fusion_barrier(self, x: Any) -> Any:
        # XLA could fuse the last multiplication with a caller's addition, which rounds otherwise.
        # A maximum in between, which changes nothing, prevents it.
        return lax.max(x, -jnp.finfo(x.dtype).max)  # type: ignore[no-untyped-call]

    def complex(self, real: Any, imag: Any, dtype: str) -> Any:
        return lax.complex(real, imag)

    def double_precision(self) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = jax.enable_x64(True)
        return context

    def from_numpy(self, array: np.ndarray[Any, Any], request: Request) -> Any:
        return jnp.asarray(array.copy(), device=request.device)

    def kernel_values(self, request: Request, transform: Transform | None, stream: int = 0) -> Any:
        return kernel_values(request, transform, stream)

    def execute(self, plan: Plan, request: Request, out: Any = None) -> Any:
        return self.values(plan, request)  # arrays are made as a whole, and never written to

    def _hosted(self, plan: Hosted, request: Request) -> Any:
        if type(request.grid) is Grid:
            return super()._hosted(plan, request)
        values = self.from_numpy(self.host_values(plan, request), request)
        return place(jnp, values, request.grid)  # at positions that are traced

    def run(self, plan: Plan, request: Request, out_sharding: Any = None) -> Any:
        grid, dtype = request.grid, request.dtype
        self.require_width(dtype)
        if is_hosted(plan):
            values = self.values(plan, request)
            return values if out_sharding is None else _resharded(values, out_sharding)
        if out_sharding is None:
            values = make_on_host(plan, grid, dtype, request.words)
            if values is not None:
                return values
        sharding = None if out_sharding is None else _as_jax_does(grid, out_sharding)
        return run(self, single(plan, grid, dtype, sharding), request.words)

    def require_width(self, dtype: str) -> None:
        """A TypeError for a dtype that needs 64-bit mode where that is off."""
        if dtype in _DOUBLE and jnp.result_type(float) != jnp.float64:
            raise TypeError(
                f"{dtype} in JAX needs 64-bit mode: jax.config.update('jax_enable_x64', True)"
            )


def _as_jax_does(grid: Grid, out_sharding: Any) -> NamedSharding:
    """Resolve ``out_sharding`` as JAX's own initializers do, with JAX's errors."""
    given = partial(_resharded, out_sharding=out_sharding)
    spec = jax.eval_shape(lambda: given(jnp.zeros(grid.array_shape))).sharding.spec
    named = isinstance(out_sharding, NamedSharding)
    return NamedSharding(out_sharding.mesh if named else jax.sharding.get_abstract_mesh(), spec)


def _resharded(values: Any, out_sharding: Any) -> Any:
    return jax.sharding.reshard(values, out_sharding)  # type: ignore[no-untyped-call]


def _is_at_hand(data: jax.Array) -> bool:
    """Whether an array can be read without waiting for a device, and has no say where results go.

    Of an array that was put on a device, what is computed with it follows it there.
    """
    if isinstance(data, jax.core.Tracer) or data.committed:
        return False
    return all(device.platform == "cpu" for device in data.devices())


def _signed(word: int) -> Any:
    return np.uint32(word).view(np.int32)  # JAX's own scalars take 100 microseconds each


IMPLEMENTATIONS = ("threefry2x32", "rbg", "unsafe_rbg")
"""The keys whose first two words are a key of portinit's.

An rbg key holds the threefry key of the same seed, folds and splits twice over. An unsafe_rbg key
does so until it is folded or split, which its generator does as the platform pleases.
"""


def key_data(key: jax.Array) -> jax.Array:
    """The two uint32 words of a typed or raw key, checked."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        impl = str(jax.random.key_impl(key))
        if impl not in IMPLEMENTATIONS:
            raise TypeError(
                f"a key must be a threefry2x32, rbg or unsafe_rbg key; got one of {impl}. Convert "
                "it: jax.random.wrap_key_data(jax.random.bits(key, (2,)), impl='threefry2x32')"
            )
        key = jax.random.key_data(key)
    if key.dtype != jnp.uint32 or key.shape not in ((2,), (4,)):
        raise TypeError(
            "a key must be a single JAX key, typed or raw uint32 of shape (2,), or (4,) of rbg; "
            f"got dtype {key.dtype}, shape {key.shape}: make one of a seed, as in portinit.key(0), "
            "or of a seed that is traced, as in jax.random.key(seed)"
        )
    return key if key.shape == (2,) else lax.slice(key, (0,), (2,))


BACKEND = JaxBackend(jnp)
