"""JAX's arrays made by NumPy on the host: XLA's bytes, JAX's own arrays, and only where it may."""

import contextlib
import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

import portinit as pi
import portinit_flax
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.random.words import fold_in_each
from portinit_jax import host, initializers
from portinit_jax.programs import shared

SERVES = host.can_make_on_host  # before a fixture hides it
KEY = pi.key(3)


@pytest.fixture
def served(by_xla: None, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each array that was asked for was NumPy's."""
    answers: list[bool] = []

    def serves(*asked: Any) -> bool:
        answers.append(SERVES(*asked))
        return answers[-1]

    monkeypatch.setattr(host, "can_make_on_host", serves)
    return answers


ALL = {
    "uniform": pi.uniform(),
    "kaiming_normal": pi.kaiming_normal(),
    "truncated_normal": pi.truncated_normal(),
    "blocks": pi.blocks((pi.normal(), pi.zeros)),
    "where": pi.where(0, pi.zeros, pi.normal()),
    "eye": pi.eye(),
    "constant": pi.constant(-0.0),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64", "float8_e4m3fn"])
@pytest.mark.parametrize("name", ALL)
def test_the_bytes_are_those_of_the_compiled_program(
    name: str, dtype: str, served: list[bool]
) -> None:
    make = ALL[name]
    compiled = jax.jit(lambda key: make(key, (24, 16), dtype))(jax.random.key(3))
    ours = make(KEY, (24, 16), dtype, xp=jnp)
    assert served == [True]
    assert ours.dtype == compiled.dtype
    assert np.asarray(ours).tobytes() == np.asarray(compiled).tobytes()


EACH = {name: make for name, make in ALL.items() if name != "eye"}
LAYS = ["torch", "flax", "flax_conv_transpose"]


@pytest.mark.parametrize("shape", [(), (8,), (4, 8), (2, 3, 4, 6), (0, 3), (1 << 7, 65)])
@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("number", [1, 40])
def test_arrays_of_several_keys_are_those_made_one_by_one(
    name: str, shape: tuple[int, ...], number: int, served: list[bool]
) -> None:
    make, names = EACH[name], [f"layers.{i}.weight" for i in range(number)]
    tried = 0
    for layout, dtype in itertools.product(LAYS, ["float32", "bfloat16", "complex64"]):
        try:
            grid = Grid.whole(shape, LAYOUTS[layout])
            plan = make.planned(grid, dtype)
        except ValueError:
            continue
        arrays = host.make_each_on_host(plan, grid, dtype, fold_in_each(KEY, names))
        tried += 1
        assert arrays is not None
        assert len(arrays) == len(names)
        for array, own in zip(arrays, names, strict=True):
            wanted = make(KEY.fold_in(own), shape, dtype, layout=layout)
            assert array.shape == shape
            assert np.asarray(array).tobytes() == wanted.tobytes()
            assert not array.size or array.unsafe_buffer_pointer() % host._ALIGNMENT == 0
    assert tried or len(shape) < 2 or 0 in shape  # fans need two axes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
@pytest.mark.parametrize("context", [contextlib.nullcontext, jax.disable_jit])
def test_many_small_arrays_are_jaxs_own_and_tied_to_no_device(
    dtype: str, context: Any, served: list[bool]
) -> None:
    names = [f"layers.{i}.weight" for i in range(host._MANY)]
    make, grid = pi.normal(), Grid.whole((3, 5), LAYOUTS["flax"])
    with context(), jax.transfer_guard("disallow"):
        words = fold_in_each(KEY, names)
        arrays = host.make_each_on_host(make.planned(grid, dtype), grid, dtype, words)
    assert arrays is not None
    for array, own in zip(arrays, names, strict=True):
        assert isinstance(array, jax.Array)
        assert not array.committed
        assert not array.weak_type
        wanted = make(KEY.fold_in(own), (3, 5), dtype, layout="flax")
        assert np.asarray(array).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("initializer", [pi.normal(), pi.ones, pi.uniform()])
def test_a_number_of_no_axes(initializer: pi.Initializer, served: list[bool]) -> None:
    array = initializer(jax.random.key(3), ())
    assert array.shape == ()
    assert np.asarray(array).tobytes() == initializer(pi.key(3), ()).tobytes()
    assert served == [True]


@pytest.mark.parametrize("key", [jax.random.key(3), jax.random.PRNGKey(3)])
def test_a_jax_key_at_hand_is_read(key: Any, served: list[bool]) -> None:
    drawn = initializers.he_normal()(key, (24, 16))
    assert served == [True]
    assert np.array_equal(drawn, pi.he_normal()(KEY, (24, 16)))


def test_a_large_array_keeps_the_memory_that_numpy_filled(served: list[bool]) -> None:
    shape = (1 << 10, 1 << 10)
    wanted = pi.normal()(KEY, shape)  # now that numba is loaded, if it is installed
    tracemalloc.start()
    try:
        drawn = pi.normal()(KEY, shape, xp=jnp)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert served == [True]
    assert drawn.unsafe_buffer_pointer() % host._ALIGNMENT == 0
    assert peak < 1.5 * 4 * math.prod(shape)  # of NumPy's arrays: there is no second one
    assert np.asarray(drawn).tobytes() == wanted.tobytes()


def test_it_is_an_array_like_any_other(served: list[bool]) -> None:
    """On the default device, tied to none, and good to be donated."""
    drawn = pi.normal()(KEY, (64, 64), xp=jnp)
    before = np.array(drawn)
    assert drawn.devices() == jnp.zeros(3).devices()
    assert not drawn.committed
    added = jax.jit(lambda x: x + 1, donate_argnums=0)(drawn)
    assert served == [True]
    assert drawn.is_deleted()
    assert np.array_equal(added, before + 1)


def in_jit(make: Callable[[], Any]) -> Any:
    return jax.jit(make)()


def in_shapes(make: Callable[[], Any]) -> Any:
    return jax.eval_shape(make)


def on_a_mesh(make: Callable[[], Any]) -> Any:
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        return make()


@pytest.mark.parametrize("where", [in_jit, in_shapes, on_a_mesh])
def test_it_is_not_for(where: Callable[[Callable[[], Any]], Any], served: list[bool]) -> None:
    where(lambda: pi.normal()(KEY, (64, 64), xp=jnp))
    assert served == [False]


def test_a_traced_program_holds_no_large_constant(served: list[bool]) -> None:
    made = jax.make_jaxpr(lambda: pi.normal()(KEY, (64, 64), xp=jnp))()
    assert served == [False]
    assert all(np.size(constant) < 64 for constant in made.consts)


def test_a_key_on_a_device_takes_the_array_there(served: list[bool]) -> None:
    key = jax.device_put(jax.random.key(3), jax.devices()[0])
    drawn = pi.normal()(key, (64, 64))
    assert served == []
    assert drawn.committed


@pytest.mark.parametrize("make", [pi.orthogonal(), pi.where(0, pi.zeros, pi.orthogonal())])
def test_what_is_not_elementwise_is_left_to_xla(make: Any, served: list[bool]) -> None:
    make(KEY, (8, 8), xp=jnp)
    assert served == [False]


def test_out_sharding_is_left_to_xla(served: list[bool]) -> None:
    mesh = jax.make_mesh((1,), ("x",), axis_types=(AxisType.Explicit,))
    spec = jax.sharding.NamedSharding(mesh, PartitionSpec("x", None))
    drawn = pi.normal()(KEY, (64, 64), out_sharding=spec, xp=jnp)
    assert served == []
    assert drawn.sharding == spec


class Two(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(7)(nn.Dense(13)(x))


def test_a_flax_model_needs_no_compilation(served: list[bool]) -> None:
    tree = jax.eval_shape(Two().init, jax.random.key(0), jnp.zeros((1, 5)))
    compilations: list[str] = []

    def listen(event: str, *_: Any, **__: Any) -> None:
        if "backend_compile" in event:
            compilations.append(event)

    recipe = pi.recipes.flax_defaults()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        filled = portinit_flax.initialize(tree, recipe, KEY)
        assert compilations == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    by_programs = portinit_flax.precompile(tree, recipe)(KEY)
    assert served == [True] * 4
    for ours, theirs in zip(jax.tree.leaves(filled), jax.tree.leaves(by_programs), strict=True):
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_plans_that_differ_in_constants_share_a_program() -> None:
    grid = Grid.whole((4, 8), LAYOUTS["flax"])
    plans = [pi.normal(std=std).plan(grid, "float32") for std in (0.02, 0.01)]
    specs = {shared([plan], grid, "float32", None, None)[0] for plan in plans}
    assert len(specs) == 1
    assert specs.pop().constants == 3
