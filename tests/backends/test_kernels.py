"""Fused fills: the bytes of array operations, in any memory, on any number of threads."""

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import array_api_strict
import jax.numpy as jnp
import ml_dtypes
import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from tests.support.plans import values

import portinit as pi
import portinit_torch
from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS, Layout
from portinit.backends.base import Request
from portinit.backends.kernels import filling, loops, vectors
from portinit.backends.kernels.rows import rows_of
from portinit.backends.numpy import NUMPY
from portinit.backends.plan import Elementwise
from portinit.backends.registry import backend_of
from portinit.initializers.sparse import kth_smallest
from portinit.random.integers import mulhi
from portinit.random.words import numbered_stream, random_words
from portinit.sampling.quantile import quantile
from portinit.sampling.quantile32 import pairs
from portinit.sampling.transform import Transform

KEY = pi.key(0xC0FFEE).fold_in("layers.0.weight")
LAWS = {
    "uniform": pi.uniform(),
    "symmetric": pi.uniform(-0.3, 0.3),
    "asymmetric": pi.uniform(-0.3, 0.7),
    "normal": pi.normal(std=0.02),
    "normal with mean": pi.normal(0.5, 0.3),
    "normal huge": pi.normal(std=1e38),
    "trunc_normal": pi.trunc_normal(),
    "trunc_normal asymmetric": pi.trunc_normal(0.1, 0.7, -0.3, 1.9),
    "trunc_normal tail": pi.trunc_normal(0.0, 1.0, 3.9, 4.0),
}
LAYOUTS_OF = {
    "scalar": ((), "torch"),
    "vector": ((5,), "torch"),
    "one block and a bit": ((1025,), "torch"),
    "weight": ((70, 33), "torch"),
    "kernel": ((70, 33), "flax"),
    "convolution": ((3, 3, 20, 31), "flax"),
    "transposed convolution": ((3, 2, 20, 31), "flax_conv_transpose"),
    "heads": ((24, 5, 7), Layout((1, 2), (0,))),
}


@pytest.fixture(autouse=True)
def compiled() -> None:
    """Compiled from the first call on, whatever the size."""
    filling._kernel()


def transform_of(initializer: pi.Initializer, grid: Grid, dtype: str = "float32") -> Transform:
    plan = initializer.plan(grid, dtype)
    assert isinstance(plan, Elementwise)
    return plan.transform


def by_arrays(initializer: pi.Initializer, grid: Grid, dtype: str = "float32") -> NDArray[Any]:
    """As without numba: words, and the steps array by array."""
    words = random_words(np, KEY.words, grid.counters(np, None))
    values = transform_of(initializer, grid, dtype).apply(np, words, float_format(dtype))
    return np.reshape(values, grid.array_shape)


def filled(
    initializer: pi.Initializer, grid: Grid, out: NDArray[Any], workers: int = 1
) -> NDArray[Any]:
    assert filling.fill(out, KEY.words, grid, transform_of(initializer, grid), workers=workers)
    return out


@pytest.mark.parametrize("form", LAYOUTS_OF)
@pytest.mark.parametrize("name", LAWS)
def test_the_bytes_are_those_of_array_operations(name: str, form: str) -> None:
    shape, layout = LAYOUTS_OF[form]
    grid = Grid.whole(shape, LAYOUTS[layout] if isinstance(layout, str) else layout)
    found = filled(LAWS[name], grid, np.empty(shape, np.float32))
    assert found.tobytes() == by_arrays(LAWS[name], grid).tobytes()


def every_second(shape: tuple[int, ...]) -> NDArray[Any]:
    whole = np.full([2 * n for n in shape], np.nan, np.float32)
    return whole[tuple(slice(1, None, 2) for _ in shape)]


MEMORIES: dict[str, Callable[[tuple[int, ...]], NDArray[Any]]] = {
    "C": lambda shape: np.empty(shape, np.float32),
    "Fortran": lambda shape: np.empty(shape, np.float32, order="F"),
    "backwards": lambda shape: np.empty(shape, np.float32)[::-1, ::-1, ::-1],
    "one axis backwards": lambda shape: np.empty(shape, np.float32)[:, ::-1],
    "every second": every_second,
    "channels last": lambda shape: np.empty((shape[0], *shape[:0:-1]), np.float32).transpose(
        0, 2, 1
    ),
}


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("memory", MEMORIES)
def test_memory_of_any_strides_is_filled(memory: str, workers: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(filling, "_WORTH_A_THREAD", 100)
    grid = Grid.whole((12, 13, 17), LAYOUTS["flax"])
    out = MEMORIES[memory](grid.array_shape)
    assert np.array_equal(
        filled(LAWS["normal"], grid, out, workers), by_arrays(LAWS["normal"], grid)
    )


def test_nothing_beside_the_array_is_written() -> None:
    whole = np.full((9, 11), 7.0, np.float32)
    inside = whole[2:7, 3:9:2]
    filled(LAWS["normal"], Grid.whole(inside.shape, LAYOUTS["torch"]), inside)
    inside[...] = 7.0
    assert (whole == 7.0).all()


def test_elements_that_share_memory_are_left_to_array_operations() -> None:
    grid = Grid.whole((3, 4), LAYOUTS["torch"])
    shared = as_strided(np.zeros(6, np.float32), (3, 4), (4, 4))
    assert not filling.fill(shared, KEY.words, grid, transform_of(LAWS["normal"], grid))
    assert not shared.any()
    assert rows_of(grid, (0, 1)) is None


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.data())
def test_any_part_of_a_huge_parameter(data: st.DataObject) -> None:
    shape = (2**33 + 1, 2**20, 3)
    layout = data.draw(st.sampled_from(["torch", "flax", "flax_conv_transpose"]))
    grid = Grid.whole(shape, LAYOUTS[layout])
    for axis, size in enumerate(shape):
        start = data.draw(st.integers(0, size - 1) | st.just(max(0, size // 2 - 20)))
        length = data.draw(st.integers(1, 40))
        grid = grid.part(axis, slice(start, min(size, start + length)))
    out = np.empty(grid.array_shape, np.float32)
    assert filled(LAWS["normal"], grid, out).tobytes() == by_arrays(LAWS["normal"], grid).tobytes()


STEPS = [1, -1, 3, 2**31, -(2**31), 2**40, 0]


def words_of(counters: list[int]) -> NDArray[np.int32]:
    """As Python's integers say."""
    pairs = [(np.int32(c >> 32), np.uint32(c & 0xFFFFFFFF).view(np.int32)) for c in counters]
    high, low = (np.asarray(words, np.int32) for words in zip(*pairs, strict=True))
    words: NDArray[np.int32] = random_words(np, KEY.words, (high, low))
    return words


def kernel_arguments(geometry: tuple[int, ...], transform: Transform | None) -> list[Any]:
    """All but the memory and where rows begin."""
    integers, floats = filling._numbers(transform)
    numbers = np.asarray([*geometry, *integers], np.int64)
    return [numbers, floats, pairs(), *KEY.words, 0]


def raw(memory: NDArray[Any], places: list[int], starts: list[int], *geometry: int) -> None:
    """The kernel's words for some rows."""
    arguments = kernel_arguments(geometry, None)
    filling._kernel()(memory, np.asarray(places), np.asarray(starts), *arguments)


@pytest.mark.parametrize("spacing", [1, 3])
@pytest.mark.parametrize("length", [1, 20, 128, 300])
@pytest.mark.parametrize("step", STEPS)
def test_rows_that_cross_from_one_high_word_to_the_next(
    step: int, length: int, spacing: int
) -> None:
    """Three rows of counters on both sides of 2**32, in memory with room between them."""
    first = 2**32 - 5 if step >= 0 else 2**32 + 5 - length * step * (abs(step) > 3)
    starts = [first, first + 2**33 + 1, first - 2]
    places = [2, 3 + length * spacing, 7 + 2 * length * spacing]
    out = np.zeros(10 + 3 * length * spacing, np.int32)
    raw(out, places, starts, length, spacing, step)
    wanted = np.zeros_like(out)
    for place, start in zip(places, starts, strict=True):
        row = words_of([start + i * step for i in range(length)])
        wanted[place : place + length * spacing : spacing] = row
    assert np.array_equal(out, wanted)


@pytest.mark.parametrize("count", [4, 8])
@pytest.mark.parametrize("step", [1, 7, 2**32 - 3])
def test_registers_hold_the_words_of_the_cipher(
    count: int, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many at a time as a processor with, or without, AVX-512 is given."""
    monkeypatch.setattr(vectors, "_side_by_side", lambda: count)
    machine = vectors.functions()
    in_a_row, anywhere = machine["words"], machine["words_at"]

    @numba.njit
    def run(key: Any, counter: Any, step: Any, counters: Any, out: Any, other: Any) -> None:
        in_a_row(key, counter, step, out, 5)
        anywhere(key, counters, other, 0)

    size = vectors.BATCH
    first = (9 << 32) + 2**32 - 100 if step == 1 else (9 << 32) + 2**32 - 500
    low = [(first + i * step) & 0xFFFFFFFF for i in range(size)]
    counters = np.asarray([(first >> 32 << 32) | word for word in low])
    out, other = np.zeros(size + 10, np.int32), np.zeros(size, np.int32)
    key = tuple(map(np.uint32, (*KEY.words, 0)))
    run(key, np.int64(first), np.int64(step), counters, out, other)
    assert np.array_equal(other, words_of(counters.tolist()))
    assert np.array_equal(out[5:-5], other)
    assert not out[:5].any()
    assert not out[-5:].any()


SCALING = np.uint64(3_000_000_001), np.int32(-77), np.int64(-(2**31) + 5)
LAST = np.int32(3), np.int32(1 << 20)
FLOATS = tuple(np.float32(x) for x in (3e-4, -5e4, 5e4))


def some_words() -> NDArray[np.int32]:
    """A batch, with the words at the ends of everything."""
    ends = [0, 1, -1, 2**31 - 1, -(2**31), -(2**31) + 1, 2**24, -(2**24)]
    return np.concatenate([np.asarray(ends, np.int32), words_of([*range(vectors.BATCH - 8)])])


def test_registers_hold_what_array_operations_hold() -> None:
    """Each step after the cipher, compiled by itself."""
    machine = vectors.functions()
    scale, locate, multiply = machine["scale_to_range"], machine["locate"], machine["multiply"]
    interpolate, table = machine["interpolate"], pairs()

    @numba.njit
    def run(scaled: Any, ranks: Any, product: Any, scaling: Any, table: Any) -> None:
        segments = np.empty_like(ranks)
        scale(scaled, scaling)
        locate(ranks, segments)
        interpolate(ranks, segments, table)
        multiply(product, scaling)

    words = some_words()
    scaled, ranks, product = words.copy(), words.copy(), words.copy()
    run(scaled, ranks, product, SCALING, table)
    size, first, factor = map(int, SCALING)
    assert np.array_equal(scaled, mulhi(words ^ np.int32(-(2**31)), size, 32) + np.int32(first))
    assert np.array_equal(ranks, quantile(np, words, 32))
    assert product.tolist() == [(word * factor) >> 32 for word in words.tolist()]


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_registers_become_values(dtype: Any) -> None:
    machine = vectors.functions()
    convert_and_store = machine["convert_and_store"]

    @numba.njit
    def run(x: Any, last: Any, floats: Any, out: Any) -> None:
        convert_and_store(x, last, floats, out, 3)

    words, out = some_words(), np.full(vectors.BATCH + 6, 7, dtype)
    run(words, LAST, FLOATS, out.view(f"i{out.itemsize}"))
    shift, offset, (scale, low, high) = *LAST, FLOATS
    values = np.clip(((words >> shift) + offset).astype(np.float32) * scale, low, high)
    assert out[3:-3].tobytes() == values.astype(dtype).tobytes()
    assert (out[[0, 1, 2, -3, -2, -1]] == 7).all()
    assert (values == low).any()
    assert (values == high).any()


class InArrays:
    """What the loops call, as operations on NumPy's arrays."""

    def __init__(self, steps: Transform | None) -> None:
        self.steps = steps

    @staticmethod
    def words(key: Any, counter: Any, step: Any, out: Any, at: int) -> None:
        counters = counter + np.arange(vectors.BATCH) * step
        InArrays.words_at(key, counters, out, at)

    @staticmethod
    def words_at(key: Any, counters: Any, out: Any, at: int) -> None:
        high, low = (counters >> 32).astype(np.int32), counters.astype(np.int32)
        pair, stream = (int(key[0]), int(key[1])), int(key[2].view(np.int32))
        out[at : at + vectors.BATCH] = random_words(np, pair, (high, low), stream=stream)

    def convert_and_store(self, x: Any, last: Any, floats: Any, out: Any, at: int) -> None:
        assert self.steps is not None
        values = self.steps.apply(np, x, float_format("float32"))
        halves = values.astype(ml_dtypes.bfloat16) if out.itemsize == 2 else values
        out[at : at + x.size] = halves.view(out.dtype)

    @staticmethod
    def copy(x: Any, out: Any, at: int) -> None:
        out[at : at + x.size] = x

    @staticmethod
    def leave(*_: Any) -> None:
        """The steps are all taken in ``convert_and_store``."""


@pytest.mark.parametrize(
    ("memory", "geometry"),
    [
        (([0, 400], [0, 300]), (300, 1, 1)),
        (([0, 600], [2**32 - 150, 9]), (200, 3, 1)),
        (([0, 40, 80, 120], [5, 2**40, 2, 7]), (17, 2, 600)),
        (([0, 300], [4, 5]), (256, 1, 600)),
    ],
)
@pytest.mark.parametrize(
    ("law", "halved"),
    [
        ("words", False),  # words have 32 bits
        *itertools.product(["normal", "trunc_normal asymmetric"], [False, True]),
    ],
)
def test_machine_code_does_what_the_python_says(
    law: str, memory: tuple[list[int], list[int]], geometry: Any, halved: bool, monkeypatch: Any
) -> None:
    """The loops in plain Python, on NumPy's arrays."""
    grid = Grid.whole((600,), LAYOUTS["torch"])
    steps = None if law == "words" else transform_of(LAWS.get(law, LAWS["normal"]), grid)
    arguments = kernel_arguments(geometry, steps)
    kind = np.int16 if halved else np.int32
    plain, machine = np.zeros(1300, kind), np.zeros(1300, kind)
    filling._kernel()(machine, *map(np.asarray, memory), *arguments)
    arrays = InArrays(steps)
    for name in ("scale_to_range", "locate", "interpolate", "multiply"):
        monkeypatch.setattr(loops, name, arrays.leave)
    for name in ("words", "words_at", "copy", "convert_and_store"):
        monkeypatch.setattr(loops, name, getattr(arrays, name))
    loops.fill(plain, *map(np.asarray, memory), *arguments)
    assert plain.any()
    assert np.array_equal(plain, machine)


@pytest.mark.parametrize("stream", [0, numbered_stream(1), numbered_stream(7)])
def test_words_stay_words(stream: int) -> None:
    grid = Grid.whole((40, 50), LAYOUTS["flax"])
    out = np.empty((40, 50), np.int32)
    assert filling.fill(out, KEY.words, grid, None, stream)
    words = random_words(np, KEY.words, grid.counters(np, None), stream=stream)
    assert np.array_equal(out, words)


@pytest.mark.parametrize("name", [name for name in LAWS if name != "normal huge"])
def test_bfloat16_is_rounded_as_it_is_drawn(name: str) -> None:
    grid = Grid.whole((70, 33), LAYOUTS["flax"])
    steps, out = transform_of(LAWS[name], grid, "bfloat16"), np.empty((70, 33), ml_dtypes.bfloat16)
    assert filling.fill(out, KEY.words, grid, steps)
    rounded = by_arrays(LAWS[name], grid, "bfloat16").astype(ml_dtypes.bfloat16)
    assert out.tobytes() == rounded.tobytes()


# Zeros at random places

SPARSE = pi.sparse(0.3)


@pytest.mark.parametrize("layout", ["torch", "flax"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_any_part_of_a_sparse_matrix_is_the_slice_of_the_whole(layout: str, dtype: str) -> None:
    grid = Grid.whole((61, 37), LAYOUTS[layout])
    request = Request(NUMPY, KEY.words, grid, dtype)
    plan = SPARSE.plan(grid, dtype)
    whole = NUMPY.values(plan, request)
    rows, columns = grid.shape
    assert np.count_nonzero(whole == 0) == columns * math.ceil(0.3 * rows)
    for cut in ((slice(3, 40), slice(0, 37)), (slice(0, 61), slice(5, 6)), (slice(7, 8), slice(9))):
        part = grid.part(0, cut[0]).part(1, cut[1])
        assert np.array_equal(NUMPY.values(plan, request.on(part)), whole[cut])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("initializer", [SPARSE, pi.scaled(SPARSE, 0.5)], ids=str)
def test_a_big_sparse_tensor_is_numpys(initializer: pi.Initializer, dtype: str) -> None:
    """Of more than one tile, made by torch and filled in place."""
    wanted = initializer(KEY, (300, 400), dtype).astype(np.float64)
    made = initializer(KEY, (300, 400), dtype, xp=torch)
    empty = torch.empty(300, 400, dtype=made.dtype)
    filled_one = portinit_torch.fill_(empty, initializer, key=KEY, layout="flax")
    assert np.array_equal(made.double().numpy(), wanted)
    assert np.array_equal(filled_one.double().numpy(), wanted)


def test_every_column_has_its_zeros_by_either_way() -> None:
    grid = Grid.whole((61, 37), LAYOUTS["torch"])
    fast = values(SPARSE, KEY.words, grid)
    slow = values(SPARSE, KEY.words, grid, backend=backend_of(None, array_api_strict))
    assert np.array_equal(fast, np.asarray(slow))
    assert ((fast == 0).sum(0) == math.ceil(0.3 * 61)).all()


@pytest.mark.parametrize("k", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("xp", [np, torch, jnp], ids=lambda xp: xp.__name__)
def test_of_equal_words_the_first_count(xp: Any, k: int) -> None:
    """By sorting pairs of a word and its place, as Python does."""
    rows = [[5, 5, 5, -2, 9, 5], [1, 2, 3, 4, 5, 6], [7, 7, 7, 7, 7, 7]]
    words, places = kth_smallest(backend_of(None, xp).xp, xp.asarray(rows, dtype=xp.int32), k)
    expected = [sorted((word, place) for place, word in enumerate(row))[k - 1] for row in rows]
    assert [int(word) for word in words] == [word for word, _ in expected]
    pairs = list(zip(rows, expected, strict=True))
    if places is None:
        assert all(sum(w <= word for w in row) == k for row, (word, _) in pairs)
    else:
        assert [int(place) for place in places] == [place for _, place in expected]


@pytest.mark.parametrize("k", [1, 40, 600, 1500, 2999, 3000])
@pytest.mark.parametrize("low", [-(2**31), 0, 2**31 - 4000])
@pytest.mark.parametrize("loaded", [False, True])
def test_the_smallest_of_long_rows(
    k: int, low: int, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By NumPy's stable sort; of words that are spread evenly, and of others."""
    monkeypatch.setattr(filling, "_ready", loaded)
    words = np.random.default_rng(k).integers(low, 2**31, (7, 3000)).astype(np.int32)
    limits, places = kth_smallest(np, words, k)
    found = words <= limits[:, None]
    if places is not None:
        equal = words == limits[:, None]
        found &= ~equal | (np.arange(3000) <= places[:, None])
    smallest = np.argsort(words, axis=1, stable=True)[:, :k]
    assert np.array_equal(np.nonzero(found)[1].reshape(7, k), np.sort(smallest, axis=1))


UNEVEN = {
    "evenly": np.random.default_rng(0).integers(-(2**31), 2**31, (5, 4000)),
    "in a cluster": 2**31 - 1 - np.random.default_rng(1).permutation(20000).reshape(5, 4000),
    "at both ends": np.random.default_rng(2).permuted(
        [[*range(-(2**31), -(2**31) + 2000), *range(2**31 - 2000, 2**31)]] * 5, axis=1
    ),
    "all but one alike": np.asarray([[-(2**31), *[7] * 3999]] * 5),
}


@pytest.mark.parametrize("words", UNEVEN.values(), ids=UNEVEN)
@pytest.mark.parametrize("k", [1, 2, 1999, 2000, 3999, 4000])
def test_a_threshold_has_k_words_below_it_or_none_has(k: int, words: NDArray[Any]) -> None:
    """In machine code, and in plain Python; the neighbours in order say whether there is one."""
    filling._kernel()
    words = words.astype(np.int32)
    ordered = np.sort(words, axis=1)
    exists = k == 4000 or (ordered[:, k - 1] < ordered[:, k]).all()
    limits = filling.thresholds(words, k)
    assert (limits is not None) == exists
    if limits is not None:
        assert ((words <= limits[:, None]).sum(axis=1) == k).all()
        plain = np.empty(1, np.int32)
        assert loops.thresholds(words[:1], k, plain)
        assert plain[0] == limits[0]


MATRICES: dict[str, Callable[[tuple[int, int], Any], NDArray[Any]]] = {
    "C": lambda shape, dtype: np.zeros(shape, dtype),
    "Fortran": lambda shape, dtype: np.zeros(shape, dtype, order="F"),
    "every second": lambda shape, dtype: np.zeros((shape[0], 2 * shape[1]), dtype)[:, ::2],
    "backwards": lambda shape, dtype: np.zeros(shape, dtype)[::-1, ::-1],
    "short rows": lambda shape, dtype: np.zeros((shape[0], 2 * shape[1]), dtype)[:, : shape[1]],
}


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("shape", [(140, 300), (300, 40)])
@pytest.mark.parametrize("memory", MATRICES)
def test_zeros_are_made_in_any_memory(memory: str, shape: tuple[int, int], dtype: Any) -> None:
    """Of a part of a matrix, along which batches lie, or do not."""
    rows, columns = shape
    grid = Grid.whole((rows + 10, columns), LAYOUTS["torch"]).part(0, slice(3, rows + 3))
    out, name = MATRICES[memory](shape, dtype), np.dtype(dtype).name
    NUMPY.execute(SPARSE.plan(grid, name), Request(NUMPY, KEY.words, grid, name), out)
    by_array = values(SPARSE, KEY.words, grid, backend=backend_of(None, array_api_strict))
    assert np.array_equal(out, np.asarray(by_array).astype(dtype))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_sparse_block_of_a_matrix_has_its_own_columns(axis: int) -> None:
    packed = pi.blocks((pi.normal(), SPARSE, pi.zeros), sizes=(140, 200, 60), axis=axis)
    fast = packed(KEY, (400, 400), layout="torch")
    slow = np.asarray(packed(KEY, (400, 400), xp=array_api_strict, layout="torch"))
    assert np.array_equal(fast, slow)
    empty = torch.empty(400, 400)
    assert np.array_equal(portinit_torch.fill_(empty, packed, key=KEY).numpy(), slow)


# Where it is used, and where it cannot be


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.setattr(filling, "_ready", False)
    return


BIG = (1100, 1000)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "complex64"])
@pytest.mark.parametrize("name", ["normal", "sparse", "where"])
def test_a_big_array_is_the_same_without_numba(
    name: str, dtype: str, without_numba: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {
        "normal": pi.normal(std=0.02),
        "sparse": pi.sparse(0.3),
        "where": pi.where(np.s_[5:, 3:40], pi.uniform(-1, 2), pi.zeros),
    }
    slow = table[name](KEY, BIG, dtype)
    monkeypatch.undo()
    filling._kernel()
    assert filling.is_ready(Grid.whole((1,), Layout()))
    assert table[name](KEY, BIG, dtype).tobytes() == slow.tobytes()


def test_loading_waits_for_work_that_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "_ready", False)
    monkeypatch.setattr(filling, "_drawn_without", 0)
    assert not filling.is_ready(Grid.whole((1000,), Layout()))
    assert filling.is_ready(Grid.whole((filling.WORTH_LOADING,), Layout()))


SMALL = (512, 512)


@pytest.mark.parametrize(
    ("fill", "turns"),
    [
        (lambda: pi.normal()(KEY, SMALL), 16),
        (lambda: portinit_torch.normal_(torch.empty(SMALL), key=KEY), 16),
        (lambda: portinit_torch.normal_(torch.empty(SMALL, dtype=torch.bfloat16), key=KEY), 16),
        (lambda: pi.normal()(KEY, SMALL, "float16"), 16),
        (lambda: pi.normal()(KEY, SMALL, "complex64"), 8),
        (lambda: pi.normal()(KEY, SMALL, "float64"), None),  # which no kernel fills
        (lambda: portinit_torch.normal_(torch.empty(SMALL).double(), key=KEY), None),
    ],
)
def test_many_small_arrays_are_worth_loading_at_last(
    fill: Callable[[], Any], turns: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "_ready", False)
    monkeypatch.setattr(filling, "_drawn_without", 0)
    filling._kernel.cache_clear()
    loaded = []
    for _ in range(18):
        fill()
        loaded.append(filling._ready)
    assert loaded.index(True) == turns if turns else not any(loaded)


def test_a_big_sparse_matrix_is_worth_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though each of its tiles is not."""
    monkeypatch.setattr(filling, "_ready", False)
    filling._kernel.cache_clear()
    SPARSE(KEY, BIG)
    assert filling._ready


def test_without_numba_nothing_is_fused(without_numba: None) -> None:
    assert not filling.is_ready(Grid.whole((1 << 24,), Layout()))


@pytest.mark.parametrize("threads", [1, 2])
def test_torchs_threads_are_respected(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(filling, "in_threads", lambda f, items, n: seen.append(n))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        portinit_torch.normal_(torch.empty(1 << 19), key=KEY)
    finally:
        torch.set_num_threads(before)
    assert seen == ([2] if threads == 2 else [])


TENSORS: dict[str, Callable[[], torch.Tensor]] = {
    "contiguous": lambda: torch.empty(8, 6, 5, 4),
    "channels_last": lambda: torch.empty(8, 6, 5, 4).to(memory_format=torch.channels_last),
    "transposed": lambda: torch.empty(4, 5, 6, 8).permute(3, 2, 1, 0),
    "a view": lambda: torch.empty(16, 12, 5, 8)[::2, 1:7, :, ::2],
    "numbered device": lambda: torch.empty(8, 6, 5, 4, device="cpu:0"),
    "a parameter": lambda: torch.nn.Parameter(torch.empty(8, 6, 5, 4)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", TENSORS)
def test_torchs_memory_is_filled_in_place(form: str, dtype: torch.dtype) -> None:
    tensor = TENSORS[form]()
    tensor = tensor if tensor.requires_grad else tensor.to(dtype)
    place, version = tensor.data_ptr(), tensor._version
    portinit_torch.normal_(tensor, 0.5, 0.3, key=KEY)
    wanted = pi.normal(0.5, 0.3)(KEY, (8, 6, 5, 4), tensor.dtype, xp=torch, layout="torch")
    assert torch.equal(tensor, wanted)
    assert tensor.data_ptr() == place
    assert tensor._version > version  # autograd sees the change


def test_a_change_that_backward_needs_undone_is_an_error() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    loss = (weight * weight).sum()
    portinit_torch.normal_(weight, key=KEY)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_tensors_are_filled_too() -> None:
    with torch.inference_mode():
        tensor = portinit_torch.normal_(torch.empty(30), key=KEY)
        assert torch.equal(tensor, portinit_torch.normal_(torch.zeros(30), key=KEY))


def test_a_draw_has_as_many_threads_as_it_is_told() -> None:
    grid = Grid.whole((4,), Layout())
    assert NUMPY.threads(Request(NUMPY, KEY.words, grid, "float32", threads=5)) == 5
    assert NUMPY.threads(Request(NUMPY, KEY.words, grid, "float32")) >= 1
