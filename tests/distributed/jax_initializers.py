"""Initializers on eight devices: each way of asking for a part, its bytes and its program."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import portinit
import portinit_jax
from portinit.backends.threads import find_numba
from portinit_jax import initializers as jax_names
from tests.distributed.jax_machine import assert_local, collectives, largest

KEY = portinit.key(5)
portinit.normal()(KEY, (1 << 20,), layout="torch")  # loads numba: programs could call its fills
PACKED = portinit.blocks(
    (portinit.xavier_uniform(), portinit.zeros, portinit.normal(), portinit.eye())
)

MATRICES: dict[str, portinit.Initializer] = {
    "uniform": portinit.uniform(-1.0, 2.0),
    "normal": portinit.normal(0.5, 2.0),
    "trunc_normal": portinit.trunc_normal(std=0.02, a=-0.03, b=0.05),
    "truncated_normal": portinit.truncated_normal(0.1),
    "xavier_uniform": portinit.xavier_uniform(),
    "xavier_normal": portinit.xavier_normal(),
    "kaiming_uniform": portinit.kaiming_uniform(a=math.sqrt(5)),
    "kaiming_normal": portinit.kaiming_normal(),
    "variance_scaling": portinit.variance_scaling(1.0, "fan_avg", "truncated_normal"),
    "constant": portinit.constant(0.3),
    "zeros": portinit.zeros,
    "eye": portinit.eye(),
    "scaled": portinit.scaled(portinit.normal(), 0.3),
    "blocks": PACKED,
    "where": portinit.where(np.s_[3:5], portinit.zeros, portinit.normal()),
}
CONVOLUTIONS = {name: MATRICES[name] for name in ("kaiming_normal", "uniform", "blocks")}
CONVOLUTIONS["dirac"] = portinit.dirac()
CONVOLUTIONS["blocks"] = portinit.blocks((portinit.normal(), portinit.uniform()))

# An array's shape and layout, and how it is divided. Each has more elements than the quantile's
# table has knots, so that the table is not taken for an array.
PLACES: dict[str, tuple[tuple[int, ...], str, P]] = {
    "flax by both": ((160, 256), "flax", P("a", "b")),
    "flax by columns": ((160, 256), "flax", P(None, ("a", "b"))),
    "torch by rows": ((256, 160), "torch", P(("b", "a"), None)),
    "rows by one": ((256, 160), "rows", P(None, "a")),
}
CONVOLUTION = ((4, 4, 64, 40), "flax", P("b", None, "a", None))
TRANSPOSED = ((4, 4, 40, 64), "flax_conv_transpose", P("b", None, None, "a"))
SPREAD = ((3, 4, 8, 16), "flax", P(None, "b", None, "a"))


@cache
def mesh(kind: str) -> Any:
    return jax.make_mesh((4, 2), ("a", "b"), axis_types=(getattr(AxisType, kind),) * 2)


def by_out_shardings(init: Any, shape: Any, spec: P, **how: Any) -> Any:
    draw = partial(init, shape=shape, **how)
    return jax.jit(draw, out_shardings=NamedSharding(mesh("Auto"), spec))


def by_out_sharding(init: Any, shape: Any, spec: P, **how: Any) -> Any:
    return jax.jit(
        partial(init, shape=shape, out_sharding=NamedSharding(mesh("Explicit"), spec), **how)
    )


def by_shard_map(init: Any, shape: Any, spec: P, layout: Any = None, dtype: Any = None) -> Any:
    own = portinit_jax.sharded(init, spec, layout)
    sizes = NamedSharding(mesh("Auto"), spec).shard_shape(shape)
    draw = partial(own, shape=sizes, dtype=dtype)
    return jax.jit(jax.shard_map(draw, mesh=mesh("Auto"), in_specs=P(), out_specs=spec))


WAYS: dict[str, Callable[..., Any]] = {
    "out_shardings": by_out_shardings,
    "out_sharding": by_out_sharding,
    "shard_map": by_shard_map,
}


def draw(way: str, init: Any, place: Any, **how: Any) -> tuple[Any, Any, Any]:
    """The compiled program, the values and NumPy's values."""
    shape, layout, spec = place
    key = jax.random.wrap_key_data(np.array(KEY.words, np.uint32), impl="threefry2x32")
    compiled = WAYS[way](init, shape, spec, layout=layout, **how).lower(key).compile()
    values = compiled(key)
    kind = "Explicit" if way == "out_sharding" else "Auto"
    assert values.sharding.is_equivalent_to(NamedSharding(mesh(kind), spec), values.ndim)
    return compiled, np.asarray(values), init(KEY, shape, layout=layout, **how)


def elementwise(way: str, init: Any, place: Any, **how: Any) -> None:
    compiled, values, expected = draw(way, init, place, **how)
    assert values.dtype == expected.dtype
    assert values.tobytes() == expected.tobytes()
    assert_local(compiled, place[0])


def wide(way: str, dtype: str) -> None:
    with jax.enable_x64(True):
        elementwise(way, portinit.normal(), PLACES["flax by both"], dtype=dtype)


def matrix(way: str, init: Any, place: Any) -> None:
    """Each device may need the whole matrix, and nothing of another's."""
    compiled, values, expected = draw(way, init, place)
    np.testing.assert_allclose(values, expected, rtol=0, atol=2e-6)
    assert collectives(compiled) == []


def thinned(way: str, place: Any) -> None:
    compiled, values, expected = draw(way, portinit.sparse(0.4), place)
    assert values.tobytes() == expected.tobytes()
    assert (values == 0).sum() == math.ceil(0.4 * 64) * 1024
    assert collectives(compiled) == []


def thinned_columns() -> None:
    """Where PyTorch's columns, Flax's inputs, are divided, a device sorts its own only."""
    place = (4096, 64), "flax", P("a", None)
    compiled, values, expected = draw("shard_map", portinit.sparse(0.4), place)
    assert values.tobytes() == expected.tobytes()
    assert largest(compiled) <= 4096 // 4 * 64


def jaxs_own_names(name: str) -> None:
    shape, spec = (160, 256), P("a", "b")
    init = getattr(jax_names, name)()
    expected = np.asarray(init(KEY, shape))
    made = by_shard_map(init, shape, spec)(jax.random.key(5))
    assert np.asarray(made).tobytes() == expected.tobytes()


def plain_call_in_shard_map() -> None:
    """What a plain call is: the same block on each device."""
    plain = jax.shard_map(
        lambda key: portinit.normal()(key, (2, 3)), mesh=mesh("Auto"), in_specs=P(),
        out_specs=P("a", None), check_vma=False,
    )  # fmt: skip
    values = np.asarray(jax.jit(plain)(jax.random.key(5)))
    assert (values.reshape(4, 2, 3) == portinit.normal()(KEY, (2, 3))).all()


def a_collective_is_seen() -> None:
    compiled = by_out_shardings(
        lambda key, shape: jnp.cumsum(portinit.normal()(key, shape), 0), (160, 256), P("a", "b")
    )
    assert collectives(compiled.lower(jax.random.key(0)).compile())


def a_whole_array_is_seen() -> None:
    def flat(key: Any, shape: Any) -> Any:
        return jax.random.bits(key, (math.prod(shape),)).reshape(shape)

    compiled = by_out_shardings(flat, (160, 256), P(None, "b")).lower(jax.random.key(0)).compile()
    assert largest(compiled) == 160 * 256


def called_on_one_device() -> None:
    """The others' programs hold no call, which would make the whole array on each device."""
    draw = jax.jit(partial(portinit.normal(), shape=(160, 256)))
    key = jax.random.key(5)
    call = 'custom_call_target="portinit_fill"'
    assert (call in draw.lower(key).compile().as_text()) == (find_numba() is not None)
    assert np.array_equal(draw(key), portinit.normal()(KEY, (160, 256)))


def of_sharded_keys(kind: str, init: Any) -> None:
    """An ensemble: a member on each device, drawn with its own key."""
    keys = jax.random.split(jax.random.key(3), 8)
    place = NamedSharding(mesh(kind), P(("a", "b")))
    draw = jax.vmap(partial(init, shape=(12, 16)))
    members = [np.asarray(init(key, (12, 16))) for key in keys]
    for draw_all in (draw, jax.jit(draw)):
        found = draw_all(jax.device_put(keys, place))
        assert np.array_equal(found, members)
        assert found.sharding.shard_shape(found.shape) == (1, 12, 16)


CASES: dict[str, Callable[[], None]] = {
    "one device": called_on_one_device,
    **{
        f"sharded keys, {kind}, {name}": partial(of_sharded_keys, kind, MATRICES[name])
        for kind in ("Auto", "Explicit")
        for name in ("normal", "trunc_normal")
    },
    **{
        f"{way}, {name}, {place}": partial(elementwise, way, init, PLACES[place])
        for way in WAYS
        for number, (name, init) in enumerate(MATRICES.items())
        for place in [list(PLACES)[number % 4], list(PLACES)[(number + 1) % 4]]
    },
    **{
        f"{way}, {name}, {label}": partial(elementwise, way, init, place)
        for way in WAYS
        for label, place in (("conv", CONVOLUTION), ("transposed", TRANSPOSED))
        for name, init in CONVOLUTIONS.items()
    },
    **{
        f"{way}, normal, {dtype}": partial(
            elementwise, way, portinit.normal(), PLACES["flax by both"], dtype=dtype
        )
        for way in WAYS
        for dtype in ("bfloat16", "float8_e4m3fn", "complex64")
    },
    **{f"{way}, normal, float64": partial(wide, way, "float64") for way in WAYS},
    **{
        f"{way}, orthogonal, {spec}": partial(
            matrix, way, portinit.orthogonal(), ((16, 32), "flax", spec)
        )
        for way in WAYS
        for spec in (P("a", "b"), P(None, "a"))
    },
    **{
        f"{way}, delta_orthogonal": partial(matrix, way, portinit.delta_orthogonal(), SPREAD)
        for way in WAYS
    },
    **{
        f"{way}, sparse, {spec}": partial(thinned, way, ((1024, 64), "flax", spec))
        for way in WAYS
        for spec in (P("a", "b"), P(None, "a"), P("a", None))
    },
    "sparse by columns": thinned_columns,
    **{
        f"jax's {name}": partial(jaxs_own_names, name)
        for name in ("normal", "he_normal", "orthogonal")
    },
    "a plain call in shard_map": plain_call_in_shard_map,
    "a collective is seen": a_collective_is_seen,
    "a whole array is seen": a_whole_array_is_seen,
}
