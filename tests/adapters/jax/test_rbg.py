"""Keys of rbg and unsafe_rbg, JAX's generators for TPUs: the weights of the threefry key."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import portinit as pi
import portinit_flax

SHAPE = (5, 7)
INIT = pi.normal(0.5, 0.3)
OF_RBG = ["rbg", "unsafe_rbg"]


@pytest.fixture
def default() -> Iterator[Callable[[str], None]]:
    before = jax.config.jax_default_prng_impl
    yield partial(jax.config.update, "jax_default_prng_impl")
    jax.config.update("jax_default_prng_impl", before)


def with_default(default: Callable[[str], None], make: Callable[[], Any]) -> tuple[Any, Any]:
    """What is made under threefry2x32, and under rbg."""
    made = []
    for name in ("threefry2x32", "rbg"):
        default(name)
        made.append(jax.tree.map(np.asarray, make()))
    return made[0], made[1]


def assert_equal(trees: tuple[Any, Any]) -> None:
    ours, theirs = map(jax.tree.leaves, trees)
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert a.any()
        assert a.tobytes() == b.tobytes()


WAYS: dict[str, Callable[[Any], Any]] = {
    "eager": lambda key: INIT(key, SHAPE),
    "jit": jax.jit(lambda key: INIT(key, SHAPE)),
    "jit, bfloat16": jax.jit(lambda key: INIT(key, SHAPE, "bfloat16").astype("float32")),
    "complex": lambda key: INIT(key, SHAPE, "complex64"),
    "raw": lambda key: INIT(jax.random.key_data(key), SHAPE),
    "raw, jit": jax.jit(lambda key: INIT(jax.random.key_data(key), SHAPE)),
    "raw, NumPy": lambda key: INIT(np.asarray(jax.random.key_data(key)), SHAPE),
}
SPLITTING: dict[str, Callable[[Any], Any]] = {
    "folded": lambda key: INIT(jax.random.fold_in(key, 3), SHAPE),
    "split": lambda key: INIT(jax.random.split(key, 2)[1], SHAPE),
    "vmap": lambda key: jax.vmap(lambda one: INIT(one, SHAPE))(jax.random.split(key, 3)),
    "scan": lambda key: jax.lax.scan(
        lambda _, one: (None, INIT(one, SHAPE)), None, jax.random.split(key, 3)
    )[1],
}


@pytest.mark.parametrize("impl", OF_RBG)
@pytest.mark.parametrize("way", WAYS)
def test_a_key_gives_what_its_first_two_words_give(way: str, impl: str) -> None:
    found = WAYS[way](jax.random.key(2**40 + 7, impl=impl))
    data = jax.random.key_data(jax.random.key(2**40 + 7, impl=impl))[:2]
    wanted = WAYS[way](jax.random.wrap_key_data(data, impl="threefry2x32"))
    assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


@pytest.mark.parametrize("way", WAYS | SPLITTING)
def test_an_rbg_key_gives_the_weights_of_threefrys(way: str) -> None:
    draw = (WAYS | SPLITTING)[way]
    found, wanted = (draw(jax.random.key(12, impl=impl)) for impl in ("rbg", "threefry2x32"))
    assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes()


def test_the_words_are_portinits() -> None:
    found = INIT(jax.random.key(12, impl="rbg"), SHAPE)
    assert np.asarray(found).tobytes() == INIT(pi.key(12), SHAPE).tobytes()


@pytest.mark.parametrize("key", [jax.random.key, jax.random.PRNGKey])
@pytest.mark.parametrize("jit", [False, True])
def test_a_linen_model_has_the_same_bytes(
    key: Callable[[int], Any], jit: bool, default: Callable[[str], None]
) -> None:
    model = nn.Sequential(
        [nn.Dense(4, kernel_init=pi.kaiming_normal()), nn.Dense(3, kernel_init=pi.he_normal())]
    )
    init = jax.jit(model.init) if jit else model.init
    x = jnp.ones((1, 3))
    kernels = with_default(default, lambda: init(key(0), x))
    assert_equal(tuple(jax.tree.map(lambda a: a + (a.ndim == 1), tree) for tree in kernels))


def test_scanned_layers_have_the_same_bytes(default: Callable[[str], None]) -> None:
    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: Any, _: Any) -> tuple[Any, None]:
            return nn.Dense(3, use_bias=False, kernel_init=pi.kaiming_normal())(x), None

    scanned = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=4)()
    x = jnp.ones((1, 3))
    assert_equal(with_default(default, lambda: scanned.init(jax.random.key(0), x, None)))


def test_an_nnx_model_has_the_same_bytes(default: Callable[[str], None]) -> None:
    def make() -> Any:
        layer = nnx.Linear(
            3, 4, use_bias=False, kernel_init=pi.kaiming_normal(), rngs=nnx.Rngs(params=0)
        )
        return layer.kernel[...]

    assert_equal(with_default(default, make))


@pytest.mark.parametrize("jit", [False, True])
def test_initialize_has_the_same_bytes(jit: bool, default: Callable[[str], None]) -> None:
    model = nn.Dense(4, use_bias=False)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 3)))

    def fill(key: jax.Array) -> Any:
        return portinit_flax.initialize(shapes, pi.recipes.torch_defaults(), key)

    made = jax.jit(fill) if jit else fill
    assert_equal(with_default(default, lambda: made(jax.random.key(5))))


def test_eval_shape_of_a_model(default: Callable[[str], None]) -> None:
    default("unsafe_rbg")
    dense = nn.Dense(4, kernel_init=pi.kaiming_normal())
    found = jax.eval_shape(dense.init, jax.random.key(0), jnp.ones((1, 3)))
    assert found["params"]["kernel"].shape == (3, 4)
