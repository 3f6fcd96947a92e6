"""The matrix: every mode on every device against NumPy, and NumPy against the shipped digests."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import portinit
from portinit.verify.arrays import (
    Array,
    absolute_distance,
    distance_in_ulp,
    first_difference,
    same_bits,
    to_numpy,
)
from portinit.verify.cases import TOLERANCE, Cell, cells
from portinit.verify.devices import Device, absent, chosen
from portinit.verify.digests import deviation
from portinit.verify.draws import LEAST_P, worst_p
from portinit.verify.runners import RUNNERS, Runner, golden


@dataclass(frozen=True)
class Miss:
    """A cell that does not hold.

    Attributes:
        cell: the case, dtype and layout.
        why: what differs, or the error that was raised.
        index: the first differing element, counted in C order; none if there are no values.
        found: its value there.
        expected: NumPy's.
    """

    cell: str
    why: str
    index: int | None = None
    found: str | None = None
    expected: str | None = None

    def __str__(self) -> str:
        if self.index is None:
            return f"{self.cell}: {self.why}"
        return f"{self.cell}: {self.why}; element {self.index} is {self.found}, not {self.expected}"


@dataclass
class Row:
    """One mode on one device.

    Attributes:
        backend: the framework.
        device: the device's name.
        mode: the mode.
        tried: cells that were drawn.
        identical: those that have NumPy's bits.
        undefined: cells that the initializer refuses, or whose dtype the device lacks.
        ulp: the largest distance from NumPy's values, in units in the last place.
        absolute: the largest distance where the promise is an absolute tolerance.
        p: the smallest p-value of the draws' goodness of fit; none if not tested.
        misses: the cells that do not hold.
    """

    backend: str
    device: str
    mode: str
    tried: int = 0
    identical: int = 0
    undefined: int = 0
    ulp: int = 0
    absolute: float = 0.0
    p: float | None = None
    misses: list[Miss] = field(default_factory=list)

    def add(self, cell: Cell, arrays: Sequence[tuple[Array, Array]]) -> None:
        """Count a cell: pairs of what was found and what is NumPy's."""
        self.tried += 1
        self.identical += all(same_bits(*pair) for pair in arrays)
        misses = [miss for pair in arrays if (miss := _compared(self, cell, *pair))]
        self.misses += misses[:1]


def _compared(row: Row, cell: Cell, found: Array, expected: Array) -> Miss | None:
    if same_bits(found, expected):
        return None
    kinds = [f"{array.dtype} of shape {array.shape}" for array in (found, expected)]
    if kinds[0] != kinds[1]:
        return Miss(str(cell), f"{kinds[0]}, not {kinds[1]}")
    ulp, absolute = distance_in_ulp(found, expected), absolute_distance(found, expected)
    if cell.bits or cell.narrow:
        row.ulp = max(row.ulp, ulp)
    else:  # near 0 a unit in the last place says nothing
        row.absolute = max(row.absolute, absolute)
    if not cell.bits and (ulp <= 1 if cell.narrow else absolute <= TOLERANCE):
        return None
    index = first_difference(found, expected)
    values = (str(array.reshape(-1)[index]) for array in (found, expected))
    return Miss(str(cell), f"{ulp} ulp apart", index, *values)


@dataclass
class Report:
    """The outcome of a verification: what was tested, and what did not hold.

    Attributes:
        rows: one for each mode and device.
        absent: what was not tested, and why.
        versions: of portinit and of the frameworks that were tested.
    """

    rows: list[Row]
    absent: list[str]
    versions: dict[str, str]

    @property
    def misses(self) -> list[tuple[Row, Miss]]:
        """Every miss, with its row."""
        return [(row, miss) for row in self.rows for miss in row.misses]

    def to_data(self) -> dict[str, Any]:
        """As JSON data."""
        return {"holds": not self.misses, **asdict(self)}


Progress = Callable[[str, int, int], None]
"""Told what is about to run, how many modes and devices are done, and how many there are."""


def verify(
    devices: Sequence[str] | None = None,
    *,
    full: bool = False,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """Draw the matrix in every mode on every device, and compare each cell.

    Args:
        devices: names such as ``"cuda:1"``, or kinds such as ``"cuda"``; all if none are given.
        full: every cell in every mode. Otherwise modes draw some cells only: NumPy and PyTorch
            all, and those that compile each way through the arithmetic.
        progress: is told what is about to run.

    Raises:
        ValueError: a device that is not here.
    """
    report = Report([], [f"{name}: not installed" for name in absent()], _versions())
    here = [(device, r) for device in chosen(devices) for r in RUNNERS]
    here = [(device, runner) for device, runner in here if runner.framework == device.framework]
    for done, (device, runner) in enumerate(here):
        where = f"{runner.framework} {runner.mode} on {device.name}"
        reason = runner.refuses(device)
        if reason is not None:
            report.absent.append(f"{where}: {reason}")
            continue
        progress(where, done, len(here))
        wanted = [c for c in cells() if full or (runner.tested(c) and runner.quick(c))]
        row = run(runner, device, wanted)
        if runner.mode == "eager":
            _fit(row, device, full)
        report.rows.append(row)
    return report


def run(runner: Runner, device: Device, wanted: Sequence[Cell]) -> Row:
    """Some cells in one mode on one device, compared."""
    row = Row(runner.framework, device.name, runner.mode)
    held = [cell for cell in wanted if runner.holds(device, cell)]
    row.undefined = len(wanted) - len(held)
    for batch in _batches(runner, held):
        _draw(runner, device, batch, row)
    if runner.framework == "numpy":
        row.misses += [Miss(str(cell), why) for cell in held if (why := deviation(cell))]
    return row


def _batches(runner: Runner, held: list[Cell]) -> Iterator[list[Cell]]:
    if not runner.together:
        yield from ([cell] for cell in held)
        return
    for _, batch in groupby(sorted(held, key=lambda cell: cell.dtype), lambda cell: cell.dtype):
        yield [*batch]


def _draw(runner: Runner, device: Device, batch: list[Cell], row: Row) -> None:
    try:
        drawn = [[to_numpy(array) for array in arrays] for arrays in runner.draw(device, batch)]
    except Exception as error:  # whatever a framework raises is a miss, and the next batch runs
        row.tried += len(batch)
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        row.misses += [Miss(str(cell), why) for cell in batch]
        return
    for cell, arrays in zip(batch, drawn, strict=True):
        numbers = range(len(arrays)) if runner.keys else [0] * len(arrays)
        row.add(cell, [(a, golden(cell, n)) for a, n in zip(arrays, numbers, strict=True)])


def _fit(row: Row, device: Device, full: bool) -> None:
    found = worst_p(device, full)
    if found is not None:
        name, row.p = found
        if row.p < LEAST_P:
            row.misses.append(Miss(name, f"a p-value of {row.p:.1e}"))


_WITH_VERSIONS = ("numpy", "torch", "jax", "cupy", "mlx.core", "equinox", "haiku")


def _versions() -> dict[str, str]:
    names = [name for name in _WITH_VERSIONS if name not in absent()]
    found = {name: str(importlib.import_module(name).__version__) for name in names}
    return {"portinit": portinit.__version__, **found}
