"""The matrix: every mode of every framework on every device here gives NumPy's bits.

The cells, the modes and the comparison are portinit.verify's, as in ``portinit verify``. Golden
vectors, made apart from portinit, hold NumPy itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import portinit as pi
from portinit.initializers.base import Initializer
from portinit.verify import devices, digests
from portinit.verify.arrays import (
    absolute_distance,
    digest,
    distance_in_ulp,
    first_difference,
    same_bits,
)
from portinit.verify.cases import DTYPES, LAYOUTS, Cell, cells
from portinit.verify.devices import Device
from portinit.verify.runners import RUNNERS, Runner, golden
from portinit.verify.table import FEW, FEWEST, IN_EVERY_LAYOUT, KINDS, TABLE
from portinit.verify.verify import Row, run

HERE = devices.found()
NUMPY = RUNNERS[0]
CPU = Device("numpy", "cpu")


def modes() -> Iterator[Any]:
    for device in HERE:
        for runner in RUNNERS:
            drawn = {cell.dtype for cell in cells() if runner.tested(cell)}
            for dtype in (d for d in DTYPES if d in drawn and runner.framework == device.framework):
                where = f"{runner.framework}-{runner.mode}-{device.name}-{dtype}"
                yield pytest.param(runner, device, dtype, id=where)


@pytest.mark.parametrize(("runner", "device", "dtype"), [*modes()])
@pytest.mark.filterwarnings("ignore")  # of overflow in casts, and the compilers' own
def test_every_cell_holds(
    runner: Runner, device: Device, dtype: str, matrix: Callable[[Row], None]
) -> None:
    if reason := runner.refuses(device):
        pytest.skip(reason)
    row = run(runner, device, [c for c in cells() if c.dtype == dtype and runner.tested(c)])
    matrix(row)
    assert not row.misses, "\n".join(map(str, row.misses))


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # of a normal that is huge
def test_the_shipped_digests_are_this_machines() -> None:
    assert digests.computed() == digests.shipped()


@pytest.mark.parametrize("device", HERE, ids=lambda device: f"{device.framework} {device.name}")
def test_what_is_not_defined_is_refused(device: Device) -> None:
    first = next(r for r in RUNNERS if r.framework == device.framework)
    refused = [cell for cell in cells() if cell.refusal is not None]
    assert refused
    if device.framework == "numpy":  # whose runner only looks at what is drawn already
        for cell in refused:
            with pytest.raises((TypeError, ValueError)):
                golden(cell)
        return
    for cell in refused:
        with pytest.raises((TypeError, ValueError)):
            [*first.draw(device, [cell])]


# The table is whole


def classes(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from classes(child)


def test_every_initializer_is_in_the_table() -> None:
    public = {value for name in dir(pi) if isinstance(value := getattr(pi, name), type)}
    wanted = {kind for kind in classes(Initializer) if kind in public}
    # A file's values are assign's; like_jax gives JAX's words and has tests of its own, as have
    # what needs a square, a key whose words are known, or rows in both frameworks.
    others = {pi.from_file, pi.from_safetensors, pi.like_jax, pi.hippo, pi.mamba_dt_bias}
    others |= {pi.sinusoids, pi.sinusoids_2d}
    missing = wanted - {type(row) for row in TABLE.values()} - others
    assert not missing


def test_the_kinds_are_cases() -> None:
    assert TABLE.keys() >= FEW >= FEWEST
    assert TABLE.keys() >= KINDS
    assert TABLE.keys() >= IN_EVERY_LAYOUT
    assert {cell.layout for cell in cells()} == {*LAYOUTS}


# The comparison can fail


def flipped(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A copy with one bit of its sixth element flipped."""
    raw = bytearray(array.tobytes())
    raw[5 * array.itemsize] ^= 1
    return np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)


def cell_of(case: str, dtype: str) -> Cell:
    return next(c for c in cells() if (c.case, c.dtype, c.layout) == (case, dtype, "flax"))


def drawing(change: Callable[[Any], Any]) -> Runner:
    return Runner("numpy", "changed", lambda _, some: [[change(golden(cell))] for cell in some])


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_bit_is_a_miss(dtype: str) -> None:
    cell = cell_of("normal std 0.02", dtype)
    row = run(drawing(flipped), CPU, [cell])
    [miss] = (miss for miss in row.misses if miss.index is not None)
    assert (miss.cell, miss.index, row.identical, row.tried) == (str(cell), 5, 0, 1)
    assert miss.found != miss.expected
    assert row.ulp == 1


def test_a_tolerance_is_one() -> None:
    cell = cell_of("orthogonal", "float32")
    assert not run(drawing(flipped), CPU, [cell]).misses
    assert run(drawing(lambda x: x + np.float32(1e-5)), CPU, [cell]).misses
    narrow = cell_of("orthogonal", "bfloat16")
    assert not run(drawing(flipped), CPU, [narrow]).misses
    assert run(drawing(lambda x: flipped(x) * 2), CPU, [narrow]).misses


@pytest.mark.parametrize(
    "change",
    [lambda x: x.astype(np.float64), lambda x: x.T, lambda x: x * np.nan],
    ids=["dtype", "shape", "nan"],
)
def test_other_values_are_a_miss(change: Callable[[Any], Any]) -> None:
    for case in ("normal", "orthogonal"):
        assert run(drawing(change), CPU, [cell_of(case, "float32")]).misses


def test_an_error_is_a_miss_and_the_next_cell_is_drawn() -> None:
    def draw(_: Device, some: list[Cell]) -> list[list[Any]]:
        if some[0].case == "zeros":
            raise RuntimeError("no kernel\nand more")
        return [[golden(cell)] for cell in some]

    chosen = [cell_of("zeros", "float32"), cell_of("ones", "float32")]
    row = run(Runner("numpy", "broken", draw), CPU, chosen)
    assert (row.tried, row.identical) == (2, 1)
    assert [str(miss) for miss in row.misses if "no kernel" in miss.why] == [
        "zeros, float32, flax: RuntimeError: no kernel"
    ]


def test_a_numpy_that_deviates_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of("normal", "float32")
    other = digests.shipped() | {str(cell): digest(flipped(golden(cell)))}
    monkeypatch.setattr(digests, "shipped", lambda: other)
    row = run(NUMPY, CPU, [cell])
    assert [miss.why[:7] for miss in row.misses] == ["SHA-256"]


# Distances


def test_places_are_counted_across_zero() -> None:
    tiny = np.float32(1e-45)
    assert distance_in_ulp(np.asarray([-tiny]), np.asarray([tiny])) == 2
    assert distance_in_ulp(np.asarray([-0.0]), np.asarray([0.0])) == 0
    assert not same_bits(np.asarray([-0.0]), np.asarray([0.0]))
    wide = np.asarray([1 + 1j, np.nextafter(2, 3) - 1j])
    assert distance_in_ulp(wide, np.asarray([1 + 1j, 2 - 1j])) == 1
    assert first_difference(wide, np.asarray([1 + 1j, 2 - 1j])) == 1


def test_no_number_is_infinitely_far() -> None:
    nan, one = np.asarray([np.nan]), np.asarray([1.0])
    assert absolute_distance(nan, one) == np.inf
    assert absolute_distance(one, one) == 0
