"""Structured initializers: eye, dirac, orthogonal, delta_orthogonal, sparse."""

import math
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

import portinit as pi

KEY = pi.key(31)
Shape = tuple[int, ...]
FRAMEWORKS = pytest.mark.parametrize("framework", [np, torch, jnp], ids=["numpy", "torch", "jax"])


def draw(initializer: pi.Initializer, shape: Shape, dtype: Any = None, **kw: Any) -> Any:
    """Values of PyTorch's shape, in float64."""
    found = initializer(kw.pop("key", KEY), shape, dtype, layout="torch", **kw)
    return np.asarray(found, dtype=None if dtype == "complex64" else np.float64)


# eye and dirac: torch's own functions are the reference


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (1, 4), (0, 3)])
def test_eye_is_the_identity(shape: Shape, xp: ModuleType, to_numpy: Any) -> None:
    found = to_numpy(pi.eye()(KEY, shape, "float32", xp=xp))
    assert np.array_equal(found, np.eye(*shape, dtype=np.float32))


@pytest.mark.parametrize(
    ("shape", "groups"),
    [
        ((4, 4, 3), 1),
        ((4, 6, 3, 3), 1),
        ((6, 4, 5, 2), 1),
        ((8, 2, 3, 3), 4),
        ((8, 3, 4, 4), 2),
        ((6, 1, 3, 3), 6),
        ((4, 4, 3, 2, 5), 2),
    ],
)
def test_dirac_is_torchs(shape: Shape, groups: int, xp: ModuleType, to_numpy: Any) -> None:
    expected = torch.nn.init.dirac_(torch.empty(shape), groups).numpy()
    found = to_numpy(pi.dirac(groups)(KEY, shape, "float32", xp=xp, layout="torch"))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_dirac_passes_its_input_on(groups: int) -> None:
    weight = pi.dirac(groups)(KEY, (8, 8 // groups, 3, 3), xp=torch, layout="torch")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 8, 6, 6)).astype(np.float32))
    assert torch.equal(torch.nn.functional.conv2d(x, weight, padding=1, groups=groups), x)


# orthogonal

SHAPES: list[Shape] = [(5, 5), (64, 64), (100, 30), (30, 100), (1, 7), (7, 1), (16, 8, 3, 3)]


def reference_orthogonal(shape: Shape) -> Any:
    """Q of the same normals in float64 by LAPACK, R's diagonal positive."""
    rows, columns = shape[0], math.prod(shape[1:])
    normals = draw(pi.normal(), shape).reshape(rows, columns)
    q, r = np.linalg.qr(normals.T if rows < columns else normals)
    q = q * np.sign(np.diag(r))
    return (q.T if rows < columns else q).reshape(shape)


@FRAMEWORKS
@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonal_is_the_q_of_its_normals(framework: Any, shape: Shape) -> None:
    found = draw(pi.orthogonal(), shape, xp=framework)
    assert np.abs(found - reference_orthogonal(shape)).max() < 1e-6


@FRAMEWORKS
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gain", [1.0, math.sqrt(2), -0.5])
def test_the_shorter_side_is_orthonormal(framework: Any, shape: Shape, gain: float) -> None:
    matrix = draw(pi.orthogonal(gain), shape, xp=framework).reshape(shape[0], -1)
    wide = shape[0] < matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    assert np.abs(gram - gain**2 * np.eye(len(gram))).max() < 1e-6


def test_an_ill_conditioned_matrix_is_within_the_promise_too() -> None:
    # A square Gaussian matrix of 300 has a condition number of some hundreds: float32 would lose
    # three of its seven digits.
    expected = reference_orthogonal((300, 300))
    for framework in (np, torch, jnp):
        assert np.abs(draw(pi.orthogonal(), (300, 300), xp=framework) - expected).max() < 1e-6


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_narrow_dtype_is_rounded_from_the_exact_matrix(dtype: str) -> None:
    exact = reference_orthogonal((20, 30))
    found = draw(pi.orthogonal(), (20, 30), dtype)
    precision = {"bfloat16": 2.0**-8, "float16": 2.0**-11}[dtype]
    # Half a unit in the last place, and the float64 answer's 1e-6.
    assert (np.abs(found - exact) <= precision * np.abs(exact) + 1e-6).all()


def test_float64_is_orthogonal_to_float64s_precision() -> None:
    for framework in (np, torch):
        matrix = draw(pi.orthogonal(), (40, 40), "float64", xp=framework)
        assert np.abs(matrix @ matrix.T - np.eye(40)).max() < 1e-13


@FRAMEWORKS
def test_complex_matrices_are_unitary(framework: Any) -> None:
    matrix = draw(pi.orthogonal(), (12, 20), "complex64", xp=framework).astype(np.complex128)
    assert np.abs(matrix @ matrix.conj().T - np.eye(12)).max() < 1e-6
    assert np.abs(matrix.imag).max() > 0.1


def test_jit_and_vmap_give_the_matrices_of_their_keys() -> None:
    raw = jnp.asarray([pi.key(seed).words for seed in range(3)], jnp.uint32)
    found = jax.jit(jax.vmap(lambda key: pi.orthogonal()(key, (6, 9))))(raw)
    for seed in range(3):
        expected = pi.orthogonal()(pi.key(seed), (6, 9))
        assert np.abs(np.asarray(found[seed]) - expected).max() < 1e-6


def test_orthogonal_matrices_are_uniformly_distributed() -> None:
    # Haar measure, in three dimensions: an entry of a uniform unit vector is U(-1, 1)
    # (Archimedes). Q as LAPACK leaves it has a first entry that is never positive.
    matrices = np.stack([draw(pi.orthogonal(), (3, 3), key=pi.key(seed)) for seed in range(1500)])
    for row in range(3):
        for column in range(3):
            assert stats.kstest(matrices[:, row, column], uniform(-1, 1).cdf).pvalue > 1e-4
    # Rotations and reflections alike: binomial of 1500, 5 sigma is 97.
    assert abs((np.linalg.det(matrices) > 0).sum() - 750) < 97


def uniform(a: float, b: float) -> Any:
    return stats.uniform(a, b - a)


def test_orthogonal_of_nothing_is_nothing() -> None:
    assert draw(pi.orthogonal(), (0, 3)).shape == (0, 3)


# delta_orthogonal


@FRAMEWORKS
@pytest.mark.parametrize("shape", [(6, 4, 3), (6, 6, 3, 4), (5, 3, 3, 3, 2)])
def test_delta_orthogonal_is_orthogonal_at_the_centre_and_zero_elsewhere(
    framework: Any, shape: Shape
) -> None:
    weight = draw(pi.delta_orthogonal(2.0), shape, xp=framework)
    centre = (slice(None), slice(None), *((size - 1) // 2 for size in shape[2:]))
    tap = weight[centre]
    assert np.abs(tap.T @ tap - 4 * np.eye(shape[1])).max() < 4e-6
    assert np.count_nonzero(weight) == np.count_nonzero(tap) == tap.size


@pytest.mark.parametrize("shape", [(0, 0, 3), (3, 0, 3), (3, 2, 0)])
def test_an_empty_delta_orthogonal_has_its_shape(shape: Shape) -> None:
    assert draw(pi.delta_orthogonal(), shape).shape == shape


@pytest.mark.parametrize("kernel", [(3, 4, 6), (3, 4, 4, 6), (2, 3, 3, 4, 6)])
def test_delta_orthogonal_has_its_centre_where_jax_has_it(kernel: Shape) -> None:
    theirs = jax.nn.initializers.delta_orthogonal()(jax.random.key(0), kernel)
    ours = pi.delta_orthogonal()(KEY, kernel)
    assert np.array_equal(np.asarray(theirs) != 0, ours != 0)


def test_delta_orthogonal_keeps_the_norm_of_its_input() -> None:
    weight = pi.delta_orthogonal()(KEY, (8, 8, 3, 3), xp=torch, layout="torch")
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 8, 6, 6)).astype(np.float32))
    assert torch.allclose(torch.nn.functional.conv2d(x, weight, padding=1).norm(), x.norm())


# sparse


@pytest.mark.parametrize("shape", [(10, 7), (33, 50), (1, 4), (100, 3)])
@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.1, 0.5, 0.99, 1.0])
def test_each_column_has_its_share_of_zeros(sparsity: float, shape: Shape) -> None:
    zeros = (draw(pi.sparse(sparsity), shape) == 0).sum(axis=0)
    # In exact decimals: ceil of 0.1 * 10 is 1.
    assert (zeros == math.ceil(round(sparsity * shape[0], 9))).all()


def test_the_columns_are_pytorchs_in_any_layout() -> None:
    kernel = pi.sparse(0.3)(KEY, (40, 20), layout="flax")
    assert ((kernel == 0).sum(axis=1) == 6).all()


def test_zeros_fall_everywhere_alike() -> None:
    zeros = np.zeros((10, 40))
    for seed in range(250):
        zeros += draw(pi.sparse(0.3), (10, 40), key=pi.key(seed)) == 0
    # Each cell is binomial(250, 0.3). A column's rows are negatively correlated, which takes one
    # of ten degrees of freedom from each column: sum / (0.3 * 0.7 * 250) * 0.9 is chi-squared(360).
    statistic = ((zeros - 75) ** 2).sum() / (250 * 0.3 * 0.7) * 0.9
    assert stats.chi2(360).ppf(1e-5) < statistic < stats.chi2(360).ppf(1 - 1e-5)


def test_columns_have_zeros_of_their_own() -> None:
    patterns = {tuple(column) for column in (draw(pi.sparse(0.5), (20, 500)) == 0).T}
    assert len(patterns) >= 498  # 184756 are possible: 0.7 pairs coincide by chance


@pytest.mark.parametrize("std", [0.01, 2.0])
def test_what_is_not_zero_is_normal(std: float) -> None:
    # So where the zeros fall has nothing to do with the values.
    weight = draw(pi.sparse(0.4, std), (500, 200))
    assert stats.kstest(weight[weight != 0], stats.norm(0, std).cdf).pvalue > 1e-4


def test_what_is_not_zero_is_normal_in_both_parts_of_a_complex_number() -> None:
    weight = draw(pi.sparse(0.4, 1.0), (500, 200), "complex64")
    kept = weight[weight != 0]
    assert kept.size == 60_000
    for part in (kept.real, kept.imag):
        assert stats.kstest(part, stats.norm(0, math.sqrt(0.5)).cdf).pvalue > 1e-4
