"""Keras's initializers from portinit's stream: Keras's moments, seeds, files and layers."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import pytest
from flax import nnx
from keras import layers
from tests.support.bits import same_bits

import portinit
import portinit_keras as pk

values = keras.ops.convert_to_numpy


RANDOM: dict[str, Callable[[Any, int], Any]] = {
    "GlorotUniform": lambda home, seed: home.GlorotUniform(seed=seed),
    "GlorotNormal": lambda home, seed: home.GlorotNormal(seed=seed),
    "LecunUniform": lambda home, seed: home.LecunUniform(seed=seed),
    "LecunNormal": lambda home, seed: home.LecunNormal(seed=seed),
    "HeUniform": lambda home, seed: home.HeUniform(seed=seed),
    "HeNormal": lambda home, seed: home.HeNormal(seed=seed),
    "RandomNormal": lambda home, seed: home.RandomNormal(0.3, 0.02, seed),
    "RandomNormal by default": lambda home, seed: home.RandomNormal(seed=seed),
    "RandomUniform": lambda home, seed: home.RandomUniform(-0.1, 0.3, seed),
    "RandomUniform by default": lambda home, seed: home.RandomUniform(seed=seed),
    "TruncatedNormal": lambda home, seed: home.TruncatedNormal(0.5, 0.1, seed),
    "TruncatedNormal by default": lambda home, seed: home.TruncatedNormal(seed=seed),
    "Orthogonal": lambda home, seed: home.Orthogonal(2.0, seed),
    **{
        f"VarianceScaling {mode} {distribution}": lambda home, seed, m=mode, d=distribution: (
            home.VarianceScaling(0.7, m, d, seed)
        )
        for mode in ("fan_in", "fan_out", "fan_avg")
        for distribution in ("uniform", "truncated_normal", "untruncated_normal", "normal")
    },
    "named axes": lambda home, seed: home.VarianceScaling(
        2.0, "fan_in", "uniform", seed, input_axes=[0], output_axes=[1, 2]
    ),
}
SHAPES = [(400, 300), (3, 5, 70, 90), (50_000,), (11, 120, 80)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", RANDOM)
def test_moments_and_bounds_are_kerass_own(name: str, shape: tuple[int, ...]) -> None:
    if (name == "named axes") != (len(shape) == 3) and (name == "named axes" or len(shape) == 3):
        pytest.skip("axes are named of shapes that have them")
    if name == "Orthogonal" and len(shape) < 2:
        pytest.skip("a vector is not orthogonal")
    ours, theirs = (values(RANDOM[name](home, 1)(shape)) for home in (pk, keras.initializers))
    assert ours.shape == theirs.shape == shape
    assert ours.dtype == theirs.dtype
    error = 6 * theirs.std() / math.sqrt(theirs.size)
    assert abs(ours.mean() - theirs.mean()) < 1.5 * error
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    if "untruncated" not in name and "RandomNormal" not in name and name != "Orthogonal":
        assert ours.max() == pytest.approx(theirs.max(), rel=5e-3)
        assert ours.min() == pytest.approx(theirs.min(), rel=5e-3)


@pytest.mark.parametrize("shape", [(6, 6), (7, 4), (4, 7), (3, 2, 5, 4)], ids=str)
def test_orthogonal_is_kerass_matrix(shape: tuple[int, ...]) -> None:
    found = values(pk.Orthogonal(2.0, seed=3)(shape)).reshape(-1, shape[-1])
    rows, columns = found.shape
    product = found @ found.T if rows < columns else found.T @ found
    np.testing.assert_allclose(product, 4 * np.eye(min(rows, columns)), atol=1e-5)


def test_a_scalar_and_an_empty_variable_are_drawn() -> None:
    for shape in ((), (0, 3)):
        assert values(pk.GlorotUniform(seed=0)(shape)).shape == shape


FIXED = {
    "Zeros": (pk.Zeros(), np.zeros((3, 4))),
    "Ones": (pk.Ones(), np.ones((3, 4))),
    "Constant": (pk.Constant(0.1), np.full((3, 4), 0.1)),
    "Identity": (pk.Identity(0.1), 0.1 * np.eye(3, 4)),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", FIXED)
def test_fixed_values_are_rounded_once(name: str, dtype: str) -> None:
    initializer, expected = FIXED[name]
    found = initializer((3, 4), dtype)
    assert same_bits(found, expected.astype(np.dtype(found.dtype)))


@pytest.mark.parametrize("name", ["Zeros", "Ones", "Constant"])
def test_fixed_values_of_integers_are_kerass(name: str) -> None:
    for dtype in ("int32", "bool"):
        ours, theirs = (getattr(home, name)()((2,), dtype) for home in (pk, keras.initializers))
        assert same_bits(ours, theirs)


CLASSES = [n for n in dir(pk) if n[0].isupper() and hasattr(keras.initializers, n)]


@pytest.mark.parametrize("name", [name for name in CLASSES if name != "Initializer"])
def test_signatures_and_bases_are_kerass(name: str) -> None:
    ours, theirs = getattr(pk, name), getattr(keras.initializers, name)
    assert issubclass(ours, theirs)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert set(ours().get_config()) == set(theirs().get_config())


def test_every_random_initializer_of_kerass_is_there() -> None:
    theirs = {
        n for n in dir(keras.initializers) if n[0].isupper() and not n.endswith("Initializer")
    }
    assert theirs - set(CLASSES) == {"STFT"}


# Seeds


def test_calls_of_one_instance_are_equal_as_in_keras() -> None:
    for home in (pk, keras.initializers):
        init = home.GlorotUniform(seed=3)
        assert same_bits(init((3, 4)), init((3, 4)))
        unseeded = home.GlorotUniform()
        assert same_bits(unseeded((3, 4)), unseeded((3, 4)))
        assert not same_bits(unseeded((3, 4)), home.GlorotUniform()((3, 4)))


def test_calls_with_a_generator_differ_and_repeat_with_it() -> None:
    first, second = (pk.HeNormal(keras.random.SeedGenerator(5)) for _ in range(2))
    drawn = [first((3, 4)), first((3, 4))]
    assert not same_bits(*drawn)
    assert all(same_bits(a, second((3, 4))) for a in drawn)
    expected = portinit.he_normal()(portinit.key(5).fold_in(1), (3, 4))
    assert same_bits(drawn[1], expected)


def test_kerass_global_seed_governs_what_has_no_seed() -> None:
    drawn = []
    for _ in range(2):
        keras.utils.set_random_seed(7)
        wrapped = pk.Initializer(portinit.normal())
        drawn.append((pk.LecunNormal()((3, 4)), wrapped((3, 4)), wrapped((3, 4))))
    assert all(map(same_bits, *drawn))
    assert same_bits(drawn[0][1], drawn[0][2])


@pytest.mark.parametrize("seed", [7 + (3 << 32), portinit.key(7 + (3 << 32)), np.int64(9)], ids=str)
def test_a_seed_is_a_key(seed: Any) -> None:
    key = seed if isinstance(seed, portinit.Key) else portinit.key(seed)
    expected = portinit.glorot_uniform()(key, (5, 6))
    init = pk.GlorotUniform(seed)
    assert same_bits(init((5, 6)), expected)
    assert type(init.get_config()["seed"]) is int
    assert same_bits(pk.Initializer(portinit.glorot_uniform(), seed)((5, 6)), expected)


def test_a_key_of_jax_is_a_seed() -> None:
    init = pk.RandomNormal(seed=jax.random.key(3))
    assert same_bits(init((4,)), portinit.normal(std=0.05)(portinit.key(3), (4,)))


@pytest.mark.parametrize("seed", ["a name", 1.5, True, np.zeros(3)], ids=str)
def test_what_is_no_seed_is_refused_in_words(seed: Any) -> None:
    for make in (pk.HeUniform, lambda s: pk.Initializer(portinit.normal(), s)):
        with pytest.raises(TypeError, match=r"seed must be an int in \[0, 2\*\*64\)"):
            make(seed)


def test_a_seed_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 2\*\*64\), got -1"):
        pk.HeUniform(-1)


def test_what_is_no_initializer_is_refused() -> None:
    with pytest.raises(TypeError, match="must be one of portinit's"):
        pk.Initializer(keras.initializers.Zeros())


# Layers: the bits of Flax's and PyTorch's


def test_layers_have_flaxs_bits() -> None:
    rngs = nnx.Rngs(params=0)
    key = jax.random.key(4)

    def flaxs(init: Any, cls: Any, *shape: Any) -> Any:
        return cls(*shape, rngs=rngs, **{f"{init[0]}_init": lambda _, *rest: init[1](key, *rest)})

    linear = flaxs(("kernel", portinit.glorot_uniform()), nnx.Linear, 5, 7)
    conv = flaxs(("kernel", portinit.he_normal()), nnx.Conv, 4, 6, (3, 2))
    embed = flaxs(("embedding", portinit.normal(std=0.05)), nnx.Embed, 11, 5)
    dense = layers.Dense(7, kernel_initializer=pk.GlorotUniform(seed=4))
    kernel = layers.Conv2D(6, (3, 2), kernel_initializer=pk.HeNormal(4))
    table = layers.Embedding(11, 5, pk.RandomNormal(seed=4))
    dense.build((1, 5))
    kernel.build((1, 8, 8, 4))
    table.build((1, 3))
    assert same_bits(dense.kernel.value, linear.kernel.get_value())
    assert same_bits(kernel.kernel.value, conv.kernel.get_value())
    assert same_bits(table.embeddings.value, embed.embedding.get_value())


@pytest.mark.parametrize(
    ("layer", "shape", "order"),
    [
        (layers.Dense, (1, 5), (1, 0)),
        (lambda n, **init: layers.Conv2D(n, (3, 2), **init), (1, 8, 8, 4), (3, 2, 0, 1)),
    ],
    ids=["dense", "conv"],
)
def test_layers_have_pytorchs_bits(layer: Any, shape: Any, order: Any) -> None:
    made = layer(7, kernel_initializer=pk.Initializer(portinit.kaiming_uniform(a=math.sqrt(5)), 4))
    made.build(shape)
    ours = values(made.kernel.value).transpose(order)
    torchs = portinit.kaiming_uniform(a=math.sqrt(5))(portinit.key(4), ours.shape, layout="torch")
    assert same_bits(ours, torchs)


def test_embeddings_in_rows() -> None:
    init = pk.Initializer(portinit.normal(), seed=4, layout="rows")
    table = layers.Embedding(11, 5, init)
    table.build((1, 3))
    expected = portinit.normal()(portinit.key(4), (11, 5), layout="torch")
    assert same_bits(table.embeddings.value, expected)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16", "float16"])
def test_policies_of_dtypes(policy: str) -> None:
    dense = layers.Dense(7, dtype=policy, kernel_initializer=pk.HeNormal(seed=4))
    dense.build((1, 5))
    dtype = "float32" if policy.startswith("mixed") else policy
    assert same_bits(dense.kernel.value, portinit.he_normal()(portinit.key(4), (5, 7), dtype))


def test_a_compiled_program_draws_the_same() -> None:
    for init in (pk.GlorotNormal(seed=4), pk.Initializer(portinit.sparse(0.3), 4), pk.Identity()):
        assert same_bits(jax.jit(lambda i=init: i((5, 7)))(), init((5, 7)))


# Files


@pytest.mark.parametrize("name", CLASSES)
def test_configurations_give_the_initializer_back(name: str) -> None:
    made = getattr(pk, name)(*[portinit.he_normal()] * (name == "Initializer"))
    seeded = "seed" in inspect.signature(type(made)).parameters
    if seeded:
        made = type(made).from_config({**made.get_config(), "seed": 8})
    data = keras.saving.serialize_keras_object(made)
    assert data["registered_name"] == f"portinit_keras>{name}"
    again = [keras.saving.deserialize_keras_object(data), made.clone()]
    again.append(keras.initializers.get(data))
    for other in again:
        assert type(other) is type(made)
        assert other.get_config() == made.get_config()
        assert same_bits(other((4, 4)), made((4, 4)))


WRAPPED = [
    portinit.kaiming_normal(mode="fan_out"),
    portinit.blocks((portinit.xavier_uniform(), portinit.zeros)),
    portinit.where(0, portinit.zeros, portinit.normal()),
    portinit.assign(np.arange(16.0).reshape(4, 4)),
    portinit.truncated_normal(0.5, -math.inf, 1.0),
]


@pytest.mark.parametrize("init", WRAPPED, ids=str)
@pytest.mark.parametrize("layout", [None, "rows", portinit.Layout(axis0=(1,), axis1=(0,))], ids=str)
def test_wrapped_initializers_are_kept_as_data(init: Any, layout: Any, tmp_path: Path) -> None:
    dense = layers.Dense(4, kernel_initializer=pk.Initializer(init, portinit.key(6), layout))
    model = keras.Sequential([keras.Input((4,)), dense])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    kept = loaded.layers[0].kernel_initializer
    assert kept.get_config() == dense.kernel_initializer.get_config()
    assert kept.initializer == init
    assert same_bits(kept((4, 4)), dense.kernel.value)
    assert same_bits(loaded.layers[0].kernel.value, dense.kernel.value)


def test_a_generator_is_saved_as_it_started() -> None:
    init = pk.HeNormal(keras.random.SeedGenerator(5, name="mine"))
    first = init((3, 4))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(init))
    assert same_bits(again((3, 4)), first)


def test_kerass_own_clones_of_a_layers_initializer_keep_the_seed() -> None:
    attention = layers.MultiHeadAttention(2, 3, kernel_initializer=pk.GlorotUniform(seed=4))
    attention.build((1, 4, 6), (1, 4, 6))
    drawn = [v for v in attention.weights if v.path.endswith("kernel")]
    expected = pk.GlorotUniform(4, input_axes=[0], output_axes=[1, 2])((6, 2, 3))
    assert [same_bits(v.value, expected) for v in drawn] == [True, True, True, False]
