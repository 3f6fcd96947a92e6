"""Grids: any part of a parameter, of any size, has the words and values of the whole."""

import math
from types import ModuleType
from typing import Any

import array_api_compat
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.plans import values as planned_values

import portinit as pi
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS, Layout, as_layout
from portinit.backends.registry import backend_of

KEY = pi.key(21)
Shape = tuple[int, ...]
QUICK = settings(deadline=None, derandomize=True, max_examples=60)

shapes = st.lists(st.integers(1, 7), min_size=1, max_size=4).map(tuple)
names = st.sampled_from(sorted(LAYOUTS))


def counters(grid: Grid, xp: Any = np) -> Any:
    """The grid's 64-bit counters as unsigned integers."""
    high, low = grid.counters(xp, None)
    high, low = (np.asarray(x).astype(np.int64) & 0xFFFFFFFF for x in (high, low))
    whole = (high.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)
    return np.broadcast_to(whole, grid.array_shape)


def values(initializer: pi.Initializer, grid: Grid, xp: Any = np) -> Any:
    backend = backend_of(KEY, xp)
    return np.asarray(planned_values(initializer, backend.words(KEY), grid, backend=backend))


@st.composite
def parts(draw: st.DrawFn) -> tuple[Grid, tuple[slice, ...]]:
    """A whole grid and a slice of each of its axes."""
    shape = draw(shapes)
    cuts = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Grid.whole(shape, as_layout(draw(names))), tuple(slice(a, b) for a, b in cuts)


def cut(grid: Grid, positions: tuple[slice, ...]) -> Grid:
    for axis, chosen in enumerate(positions):
        grid = grid.part(axis, chosen)
    return grid


def test_counters_in_pytorchs_order_count_from_0() -> None:
    grid = Grid.whole((3, 4, 5), as_layout("torch"))
    assert np.array_equal(counters(grid), np.arange(60).reshape(3, 4, 5))


def test_a_flax_kernel_counts_along_its_inputs() -> None:
    assert counters(Grid.whole((2, 3), as_layout("flax"))).tolist() == [[0, 2, 4], [1, 3, 5]]


@QUICK
@given(shapes, names)
def test_a_grid_counts_each_element_once(shape: Shape, name: str) -> None:
    found = counters(Grid.whole(shape, as_layout(name)))
    assert sorted(found.reshape(-1).tolist()) == list(range(math.prod(shape)))


@QUICK
@given(parts())
def test_a_part_has_the_counters_of_the_whole(case: tuple[Grid, tuple[slice, ...]]) -> None:
    grid, positions = case
    assert np.array_equal(counters(cut(grid, positions)), counters(grid)[positions])


@QUICK
@given(parts(), st.integers(1, 40))
def test_tiles_cover_a_grid_once(case: tuple[Grid, tuple[slice, ...]], limit: int) -> None:
    grid = cut(*case)
    found = np.full(grid.array_shape, 2**64 - 1, np.uint64)
    covered = np.zeros(grid.array_shape, int)
    for positions, tile in grid.tiles(limit):
        assert tile.size <= limit
        found[positions] = counters(tile)
        covered[positions] += 1
    assert (covered == 1).all()
    assert np.array_equal(found, counters(grid))


@QUICK
@given(parts(), st.data())
def test_blocks_partition_a_grid(case: tuple[Grid, tuple[slice, ...]], data: st.DataObject) -> None:
    grid, positions = case
    part = cut(grid, positions)
    logical = data.draw(st.integers(0, len(grid.shape) - 1))
    size = grid.shape[logical]
    middle = data.draw(st.integers(0, size))
    pieces = [part.block(logical, *ends) for ends in ((0, middle), (middle, size))]
    pieces.sort(key=lambda piece: piece[2].start)
    joined = np.concatenate([counters(block) for block, _, _ in pieces], axis=pieces[0][1])
    assert np.array_equal(joined, counters(part))
    assert sorted(block.shape[logical] for block, _, _ in pieces) == sorted([middle, size - middle])


def test_a_block_cannot_cut_what_the_layout_splits() -> None:
    grid = Grid.whole((8, 4, 6), pi.Layout(axis0=(1, 2), axis1=(0,)))
    assert grid.block(0, 6, 18)[0].array_shape == (8, 2, 6)
    with pytest.raises(ValueError, match=r"multiples of 6 .*got 5 to 18"):
        grid.block(0, 5, 18)


# Parts of drawn parameters

ELEMENTWISE = {
    "uniform": pi.uniform(-1, 2),
    "normal": pi.normal(),
    "normal with mean": pi.normal(1.0, 0.1),
    "trunc_normal": pi.trunc_normal(),
    "truncated_normal": pi.truncated_normal(),
    "xavier_uniform": pi.xavier_uniform(),
    "xavier_normal": pi.xavier_normal(),
    "kaiming_uniform": pi.kaiming_uniform(mode="fan_out"),
    "kaiming_normal": pi.kaiming_normal(),
    "variance_scaling": pi.variance_scaling(1.0, "fan_geo_avg", "uniform"),
    "glorot_normal": pi.glorot_normal(),
    "he_uniform": pi.he_uniform(),
    "lecun_normal": pi.lecun_normal(),
    "constant": pi.constant(0.3),
    "dirac": pi.dirac(2),
    "scaled": pi.scaled(pi.he_normal(), 0.1),
    "blocks": pi.blocks((pi.xavier_uniform(), pi.normal(2.0))),
    "blocks along axis 1": pi.blocks((pi.zeros, pi.he_normal()), (1, 2), axis=1),
    "where": pi.where((np.s_[1:3], 0), pi.ones, pi.normal()),
}
SHAPES = {"torch": (6, 3, 5), "flax": (5, 3, 6), "flax_conv_transpose": (5, 6, 3)}


@pytest.mark.parametrize("initializer", ELEMENTWISE.values(), ids=ELEMENTWISE)
@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize(
    "positions",
    [
        (slice(1, 4), slice(0, 2), slice(2, 3)),
        (slice(2, 3), slice(0, 3), slice(0, 5)),
        (slice(0, 0), slice(0, 1), slice(0, 1)),
        (slice(3, 5), slice(2, 3), slice(1, 3)),
    ],
)
def test_a_parts_values_are_those_of_the_whole(
    initializer: pi.Initializer, layout: str, positions: tuple[slice, ...]
) -> None:
    whole = initializer(KEY, SHAPES[layout], layout=layout)
    grid = Grid.whole(SHAPES[layout], as_layout(layout))
    assert initializer.plan(grid, "float32").divisible
    assert np.array_equal(values(initializer, cut(grid, positions)), whole[positions])


def test_eye_in_parts_is_eye() -> None:
    grid = Grid.whole((6, 8), as_layout("flax"))
    assert np.array_equal(
        values(pi.eye(), cut(grid, (slice(2, 5), slice(1, 6)))), np.eye(6, 8)[2:5, 1:6]
    )


@pytest.mark.parametrize("shape", [(70_000,), (300, 401), (3, 170, 211), (2, 2, 2, 20_000)])
@pytest.mark.parametrize("layout", ["torch", "flax"])
def test_a_large_array_is_filled_as_if_at_once(shape: Shape, layout: str) -> None:
    # More than 2**16 elements are computed tile by tile.
    initializer = pi.normal()
    at_once = values(initializer, Grid.whole(shape, as_layout(layout)))
    assert np.array_equal(initializer(KEY, shape, layout=layout), at_once)


# Parameters of more than 2**32 elements, of which a part is at hand

HUGE = {
    "torch": (2**20, 2**20),
    "flax": (2**17, 3 * 2**17),
    "torch odd": (2**31 - 1, 3, 2**29 + 5),
    "torch long": (2**40 + 3, 4),
    "flax long": (2**33 + 1, 5),
    "flax_conv_transpose": (3, 5, 2**20 + 1, 2**21 - 1),
}


def corners(size: int) -> list[slice]:
    return [slice(0, 2), slice(size // 2, size // 2 + 2), slice(size - 2, size)]


def expected_counters(grid: Grid, shape: Shape, layout: pi.Layout, positions: Any) -> list[int]:
    """On Python's integers: row-major over PyTorch's shape, from the layout's definition."""
    spatial = [
        i
        for i in range(len(shape))
        if i not in [a % len(shape) for a in (*layout.axis0, *layout.axis1)]
    ]
    order = [layout.axis0[0], layout.axis1[0], *spatial]
    found = []
    for offset in np.ndindex(*(chosen.stop - chosen.start for chosen in positions)):
        index = 0
        for axis in order:
            place = positions[axis].start + offset[axis]
            if layout.flip and axis in spatial:
                place = shape[axis] - 1 - place
            index = index * shape[axis] + place
        found.append(index)
    assert len(found) == grid.size
    return found


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.parametrize("corner", range(3))
def test_counters_beyond_32_bits_are_exact(name: str, corner: int, xp: ModuleType) -> None:
    shape, layout = HUGE[name], as_layout(name.partition(" ")[0])
    positions = tuple(corners(size)[corner] for size in shape)
    grid = cut(Grid.whole(shape, layout), positions)
    namespace = array_api_compat.array_namespace(xp.zeros(1))
    found = counters(grid, namespace).reshape(-1).tolist()
    assert found == expected_counters(grid, shape, layout, positions)
    assert corner == 0 or max(found) >= 2**32


def test_values_beyond_32_bits_come_from_their_own_words(
    xp: ModuleType, reference: ModuleType
) -> None:
    seed, shape = 21, (2**20, 2**20)
    grid = cut(Grid.whole(shape, as_layout("torch")), (slice(2**19, 2**19 + 2), slice(5, 8)))
    indices = [row * 2**20 + column for row in (2**19, 2**19 + 1) for column in (5, 6, 7)]
    expected = [float(reference.uniform(reference.word(seed, i), "float32", 0, 1)) for i in indices]
    assert values(pi.uniform(), grid, xp).reshape(-1).tolist() == expected


def test_blocks_beyond_32_bits_keep_their_counters() -> None:
    grid = Grid.whole((3 * 2**17, 2**17), as_layout("torch"))
    block, axis, positions = grid.block(0, 2 * 2**17, 3 * 2**17)
    assert (axis, positions) == (0, slice(2 * 2**17, 3 * 2**17))
    assert (
        counters(block.part(0, slice(1, 2)).part(1, slice(7, 8))).item() == (2**18 + 1) * 2**17 + 7
    )


def test_coordinates_beyond_31_bits_are_refused() -> None:
    grid = Grid.whole((2**16, 2**16), Layout((0, 1), ())).part(0, slice(2**15, 2**15 + 1))
    half = pi.where(slice(2**31, None), pi.ones, pi.zeros)
    with pytest.raises(ValueError, match=r"below 2\*\*31, got an axis of 4294967296"):
        half.evaluate(pi.key(0), grid.part(1, slice(0, 2)))
