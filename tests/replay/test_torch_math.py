"""What PyTorch's CPU kernels make of numbers, against PyTorch."""

import importlib.metadata
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.support.bits import bits, same_bits, to_numpy

from portinit.replay.digits import operations_of
from portinit.replay.torch_math import functions, mkl, reductions, sleef

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def tensors_function(name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
    return getattr(torch, name)(torch.from_numpy(x)).numpy()


@pytest.mark.parametrize("name", ["expm1", "log1p"])
def test_expm1_and_log1p_are_torchs(name: str) -> None:
    random = np.random.default_rng(0)
    special = [0, -0.0, np.inf, -np.inf, np.nan, -1, -1.5, 1e37, 1e-40, -1e-40, 88.73, -16.7, -200]
    values = [random.uniform(-1, 1, 100_000), random.uniform(-20, 90, 100_000), special]
    x = np.concatenate(values).astype(np.float32)
    wanted = tensors_function(name, x)
    ours = getattr(sleef, name)(x)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(wanted))
    assert bits(ours[~np.isnan(ours)]) == bits(wanted[~np.isnan(ours)])
    for size in range(1, 40):  # the ends of vectors
        assert bits(getattr(sleef, name)(x[:size])) == bits(tensors_function(name, x[:size]))


RANGES = {"erfinv": (-1, 1), "exp": (-20, 20), "log": (1e-4, 3), "sqrt": (0, 5)}
SHARES = {"erfinv": 0.999, "exp": 0.985, "log": 0.9, "sqrt": 0.7}


@pytest.mark.parametrize("name", sorted(functions.NAMES))
def test_rounded_functions_are_at_most_one_unit_off(name: str) -> None:
    x = np.random.default_rng(0).uniform(*RANGES.get(name, (-9, 9)), 200_000).astype(np.float32)
    ours, wanted = functions.rounded(name, x), tensors_function(name, x)
    np.testing.assert_array_max_ulp(ours, wanted, 1)
    assert np.mean(ours == wanted) > SHARES.get(name, 0.85)


SINES_APART = {("sin", torch.float16): 2}  # of 300 and -300


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", sorted(functions.NAMES))
def test_functions_of_all_16_bit_numbers(name: str, dtype: torch.dtype) -> None:
    x = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)
    x = x[torch.isfinite(x)]
    wanted = getattr(torch, name)(x).float().numpy()
    ours = functions.function(name, to_numpy(x), TORCH).astype(np.float32)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(wanted))
    differ = ours.view(np.int32) != wanted.view(np.int32)
    assert np.count_nonzero(differ & ~np.isnan(ours)) <= SINES_APART.get((name, dtype), 0)


# MKL


@pytest.fixture(params=["package", "torch"])
def library(request: pytest.FixtureRequest) -> mkl.Library:
    """The copy of the package mkl, and the one inside PyTorch."""
    inside = request.param == "torch"
    paths = [path for path in mkl._candidates() if (path.name == "libtorch_cpu.so") == inside]
    loaded = next((found for path in paths if (found := mkl._load(path))), None)
    if loaded is None or loaded.version != mkl.version_of(TORCH):
        pytest.skip(f"no MKL of PyTorch's version in {request.param}")
    return loaded


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(mkl.VECTOR_FUNCTIONS))
def test_vector_functions_are_torchs(name: str, dtype: str, library: mkl.Library) -> None:
    low, high = {"acos": (-1, 1), "asin": (-1, 1), **RANGES}.get(name, (-20, 20))
    random = np.random.default_rng(0)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 1e-40, -1e-40, 1e-310], dtype)
    for size in (1, 2, 3, 7, 8, 9, 15, 16, 17, 100, 1 << 20):
        x = random.uniform(low, high, size).astype(dtype)
        wanted = getattr(torch, name)(torch.from_numpy(x)).numpy()
        assert same_bits(library.function(name, x), wanted)
    ours = library.function(name, special)
    np.testing.assert_array_equal(ours, getattr(torch, name)(torch.from_numpy(special)).numpy())


SHAPES = [(1, 1), (3, 3), (4, 9), (9, 4), (1, 5), (5, 1), (33, 77), (100, 50), (256, 256)]
SHAPES += [(24, 8), (21, 16), (48, 32), (59, 19)]  # others by MKL's sequential layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_qr_is_torchs(shape: tuple[int, int], dtype: str, library: mkl.Library) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for ours, theirs in zip(library.qr(x), torch.linalg.qr(torch.from_numpy(x)), strict=True):
        assert same_bits(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 50, 20), (50, 50, 1), (33, 77, 99), (300, 20, 3)])
def test_products_are_torchs(sizes: tuple[int, int, int], dtype: str, library: mkl.Library) -> None:
    random = np.random.default_rng(0)
    m, k, n = sizes
    for flip_x, flip_y in itertools.product([False, True], repeat=2):
        x = random.standard_normal((k, m) if flip_x else (m, k)).astype(dtype)
        y = random.standard_normal((n, k) if flip_y else (k, n)).astype(dtype)
        x, y = x.T if flip_x else x, y.T if flip_y else y
        wanted = torch.from_numpy(x) @ torch.from_numpy(y)
        assert same_bits(library.matmul(x, y), wanted.numpy())


def test_the_version_is_the_one_that_torch_says_it_was_built_with() -> None:
    built_with = torch.__config__.show()
    wanted = mkl.version_of(TORCH)
    if wanted is None:
        pytest.skip("a torch whose MKL is not known")
    if "Math Kernel Library" not in built_with:
        pytest.skip("a torch without MKL")
    assert f"Version {wanted}" in built_with


def test_torch_versions_without_a_known_mkl() -> None:
    assert mkl.version_of((1, 13)) is None
    assert mkl.find((1, 13)) is None
    ours = operations_of((1, 13))["exp"]({}, np.float32([1, 2]))
    assert same_bits(ours, functions.rounded("exp", np.float32([1, 2])))


def test_another_version_of_mkl_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mkl, "_WANTED", {"2022.1": ((1, 0), (9, 0))})
    mkl.find.cache_clear()
    try:
        assert mkl.find(TORCH) is None
    finally:
        mkl.find.cache_clear()


def test_mkl_is_found_without_importing_torch() -> None:
    code = (
        "import sys; from portinit.replay.torch_math import mkl; "
        f"found = mkl.find({TORCH}); print(found is not None, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(mkl.find(TORCH) is not None), "False"]


def test_the_extra_names_the_version() -> None:
    pinned = [r for r in importlib.metadata.requires("portinit") or () if r.startswith("mkl")]
    assert all(f"=={mkl.version_of((2, 13))}." in requirement for requirement in pinned)


# Sums and norms


DIMS = [(1,), (5,), (31,), (100,), (70_000,), (3, 4), (9, 8), (17, 33), (40, 300), (300, 40)]
DIMS += [(3000, 70), (2, 3, 4), (6, 40, 7), (40, 6, 40), (12, 1, 9), (4, 3, 5, 6), (16, 8, 9, 10)]


def differing_reductions(dtype: str) -> list[object]:
    """The sums and norms that are not PyTorch's, along all axes, of arrays in two orders."""
    random = np.random.default_rng(0)
    wrong: list[object] = []
    for shape in DIMS:
        x = random.standard_normal(shape).astype(dtype)
        ndim = len(shape)
        for axes in (c for k in range(1, ndim + 1) for c in itertools.combinations(range(ndim), k)):
            for order in {tuple(range(ndim)), tuple(range(ndim))[::-1]}:
                y = x.transpose(order)
                theirs = torch.from_numpy(x).permute(order)
                for keep in (False, True):
                    total = reductions.sum_along(y, axes, keep, order)
                    if not same_bits(total, theirs.sum(axes, keep)):
                        wrong.append(("sum", shape, axes, order))
                    norm = torch.linalg.vector_norm(theirs, 2, axes, keep)
                    if not same_bits(reductions.norm_along(y, axes, keep, order), norm):
                        wrong.append(("norm", shape, axes, order))
    return wrong


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_norms_of_16_bit_numbers_are_torchs(dtype: torch.dtype) -> None:
    for size in (5, 16, 27, 300, 4096):
        x = torch.randn(2000, size, generator=torch.Generator().manual_seed(0)).to(dtype)
        for theirs, order in ((x, (0, 1)), (x.t().contiguous().t(), (1, 0))):
            ours = reductions.norm_along(to_numpy(x), [1], False, order)
            assert same_bits(ours.astype(to_numpy(x).dtype), theirs.norm(2, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("capability", ["avx512", "avx2", "default"])
def test_sums_and_norms_are_torchs_on_each_instruction_set(capability: str, dtype: str) -> None:
    code = (
        "import torch; torch.set_num_threads(1); from tests.replay import test_torch_math as t; "
        f"print(torch.backends.cpu.get_cpu_capability(), t.differing_reductions({dtype!r}))"
    )
    root = Path(__file__).parents[2]
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=True,
    )
    ran, wrong = out.stdout.strip().split(" ", 1)
    if ran.lower() != capability:
        pytest.skip(f"this processor has no {capability}")
    assert wrong == "[]"


def test_a_long_sum_cascades() -> None:
    """Beyond 2**16 rows the runs are longer than sixteen."""
    x = np.random.default_rng(0).standard_normal((1 << 17) + 5).astype(np.float32)
    assert same_bits(reductions.sum_along(x, None, False), torch.from_numpy(x).sum())
    columns = np.resize(x, ((1 << 17) + 5, 3))
    assert same_bits(reductions.sum_along(columns, [0], False), torch.from_numpy(columns).sum(0))
