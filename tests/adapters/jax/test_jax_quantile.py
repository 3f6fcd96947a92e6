"""How a normal's quantile is computed in JAX: a table on CPUs, arithmetic on all other chips."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import NamedSharding, PartitionSpec

import portinit
from portinit.sampling.quantile import quantile as by_arrays
from portinit_jax.quantile import quantile

SHAPE = (8, 64)  # too few elements for a call of the kernels


def draw(key: jax.Array) -> jax.Array:
    return portinit.normal()(key, SHAPE)


@pytest.fixture
def words() -> np.ndarray:
    rng = np.random.default_rng(17)
    return rng.integers(-(2**31), 2**31, SHAPE).astype(np.int32)


def lowered(platform: str) -> str:
    traced = jax.jit(draw).trace(jax.random.key(0))
    return str(traced.lower(lowering_platforms=(platform,)).as_text())


@pytest.mark.parametrize(("platform", "gathers"), [("cpu", 2), ("tpu", 0), ("cuda", 0)])
def test_the_platform_of_a_program_decides_what_looks_up(platform: str, gathers: int) -> None:
    assert lowered(platform).count("stablehlo.gather") == gathers
    assert ("63489" in lowered(platform)) == bool(gathers)  # the table's length


def test_one_program_for_two_platforms_has_both() -> None:
    program = export.export(jax.jit(draw), platforms=("cpu", "tpu"))(jax.random.key(0))
    assert program.mlir_module().count("stablehlo.gather") == 2
    found = program.call(jax.random.key(3))
    assert np.array_equal(found, draw(portinit.key(3)))


def of(words: jax.Array) -> jax.Array:
    found: jax.Array = quantile(jnp, words, 32)
    return found


def eagerly(words: jax.Array) -> jax.Array:
    with jax.disable_jit():
        return of(words)


def on_a_mesh(words: jax.Array) -> jax.Array:
    spec = PartitionSpec("x")
    mesh = jax.make_mesh((1,), ("x",))
    there = jax.device_put(words, NamedSharding(mesh, spec))
    whole: jax.Array = jax.jit(jax.shard_map(of, mesh=mesh, in_specs=spec, out_specs=spec))(there)
    return whole


WAYS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "eagerly": eagerly,
    "jit": jax.jit(of),
    "vmap": jax.vmap(of, in_axes=1, out_axes=1),
    "scan": lambda words: jax.lax.scan(lambda _, row: (None, of(row)), None, words)[1],
    "cond": jax.jit(lambda words: jax.lax.cond(words.sum() == 0, jnp.zeros_like, of, words)),
    "shard_map": on_a_mesh,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_both_have_the_same_bits_under_every_transformation(
    way: Callable[[jax.Array], jax.Array], words: np.ndarray
) -> None:
    assert np.array_equal(way(jnp.asarray(words)), by_arrays(np, words, 32, by_table=False))


def test_a_derivative_goes_past_the_words(words: np.ndarray) -> None:
    _, slope = jax.jvp(lambda x: of(jnp.asarray(words)) * x, (2.0,), (1.0,))
    assert np.array_equal(slope, by_arrays(np, words, 32).astype(np.float32))


def test_words_of_64_bits_are_looked_up_everywhere() -> None:
    words = np.random.default_rng(17).integers(-(2**63), 2**63, SHAPE)
    with jax.enable_x64(True):
        found = np.asarray(jax.jit(lambda w: quantile(jnp, w, 64))(words))
    assert np.array_equal(found, by_arrays(np, words, 64))
