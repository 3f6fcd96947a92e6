"""Ways to draw the matrix's cells: a framework, a mode, and what it draws in a quick run."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from portinit.verify import jax_modes, keras_modes, models, torch_modes
from portinit.verify.arrays import Array, to_numpy
from portinit.verify.cases import LAYOUTS, Cell, key
from portinit.verify.devices import Device
from portinit.verify.table import FEW, FEWEST, KINDS

Drawn = Sequence[Any]
"""A cell's arrays: one for each key that the mode draws for, key number 0 first."""


@dataclass(frozen=True)
class Runner:
    """One mode of one framework.

    Attributes:
        framework: the framework's module.
        mode: ``"eager"``, ``"jit"``, ...
        draw: gives for each of some cells, all of one dtype, its arrays.
        tested: whether the test suite draws a cell in this mode.
        quick: whether a quick run draws a cell that is tested.
        together: whether the cells of a dtype are drawn in one call, and so compiled in one.
        keys: whether the arrays of a cell are for several keys, or else all for the first.
        refuses: why the mode cannot run on a device; none if it can.
    """

    framework: str
    mode: str
    draw: Callable[[Device, Sequence[Cell]], Iterable[Drawn]]
    tested: Callable[[Cell], bool] = lambda cell: True
    quick: Callable[[Cell], bool] = lambda cell: True
    together: bool = False
    keys: bool = False
    refuses: Callable[[Device], str | None] = lambda device: None

    def holds(self, device: Device, cell: Cell) -> bool:
        """Whether the cell is defined, and the device has its dtype."""
        return cell.refusal is None and _has_dtype(device, cell.dtype)


@cache
def golden(cell: Cell, number: int = 0) -> Array:
    """NumPy's values of a cell: the yardstick of all others."""
    values = _call(cell, key(number))
    return to_numpy(values)


def _call(cell: Cell, key: Any, **where: Any) -> Any:
    return cell.initializer(key, cell.shape, cell.dtype, layout=LAYOUTS[cell.layout], **where)


def _in_numpy(device: Device, cells: Sequence[Cell]) -> Iterable[Drawn]:
    return [[golden(cell)] for cell in cells]


def _eagerly(device: Device, cells: Sequence[Cell]) -> Iterable[Drawn]:
    xp = importlib.import_module(device.framework)
    return [[_call(cell, key(), xp=xp, device=device.native)] for cell in cells]


_NARROW = frozenset({"bfloat16", "float8_e4m3fn", "float8_e5m2"})
_LACKING = {
    ("array_api_strict", "cpu"): _NARROW | {"float16"},
    ("keras", "cpu"): _NARROW - {"bfloat16"} | {"float64", "complex64", "complex128"},
    ("cupy", "cuda"): _NARROW,
    ("torch", "mps"): frozenset({"float64", "complex128", "float8_e4m3fn", "float8_e5m2"}),
    ("mlx.core", "cpu"): frozenset({"complex128", "float8_e4m3fn", "float8_e5m2"}),
    ("jax", "tpu"): frozenset({"float64", "complex128"}),  # emulated by pairs of float32
}


def _has_dtype(device: Device, dtype: str) -> bool:
    return dtype not in _LACKING.get((device.framework, device.kind), ())


def of_kinds(*dtypes: str) -> Callable[[Cell], bool]:
    """One initializer of each kind, in Flax's layout and some dtypes; in all if none is named."""

    def chosen(cell: Cell) -> bool:
        wanted = not dtypes or cell.dtype in dtypes
        return wanted and cell.layout == "flax" and cell.case in KINDS

    return chosen


def _broad(cell: Cell) -> bool:
    """Every initializer in float32, and the fewest in the other dtypes."""
    return cell.layout == "flax" and (cell.dtype == "float32" or cell.case in FEWEST)


def _few(cell: Cell) -> bool:
    return cell.dtype in ("float32", "bfloat16") and cell.layout == "flax" and cell.case in FEW


def _compiled(cell: Cell) -> bool:
    return _few(cell) and (cell.dtype == "float32" or cell.case == "normal with mean")


def _float32(cell: Cell) -> bool:
    return cell.dtype == "float32"


def _fewest(cell: Cell) -> bool:
    """Ways through the arithmetic in one dtype, for modes that compile it as a whole."""
    return _float32(cell) and cell.case in FEWEST


def _one_way_each(cell: Cell) -> bool:
    """Each way through the arithmetic in float32, the fewest in a wider and a narrower dtype."""
    wide = cell.dtype in ("float64", "bfloat16") and cell.case in FEWEST
    return wide or (_float32(cell) and cell.case in KINDS)


RUNNERS = (
    Runner("numpy", "eager", _in_numpy),
    Runner("array_api_strict", "eager", _eagerly, quick=_float32),
    Runner("torch", "eager", _eagerly),
    Runner("torch", "fill_", torch_modes.filled, of_kinds()),
    Runner(
        "torch",
        "compile",
        torch_modes.compiled,
        _compiled,
        _fewest,
        together=True,
        refuses=torch_modes.no_compiler,
    ),
    Runner("jax", "eager", jax_modes.eager, of_kinds("float32"), _fewest),
    Runner("jax", "jit", jax_modes.jit, _broad, _one_way_each, together=True),
    Runner("jax", "vmap", jax_modes.vmap, _few, _fewest, together=True, keys=True),
    Runner("jax", "scan", jax_modes.scan, _few, _fewest, together=True, keys=True),
    Runner(
        "jax",
        "shard_map",
        jax_modes.shard_map,
        _few,
        _fewest,
        together=True,
        keys=True,
        refuses=jax_modes.in_another_mesh,
    ),
    Runner("cupy", "eager", _eagerly),
    Runner(
        "keras",
        "variable",
        keras_modes.variables,
        _few,
        _fewest,
        refuses=keras_modes.no_backend,
    ),
    Runner("mlx.core", "eager", _eagerly),
    Runner("equinox", "initialize", models.equinox, of_kinds("float32"), _fewest, together=True),
    Runner("haiku", "initialize", models.haiku, of_kinds("float32"), _fewest, together=True),
)
