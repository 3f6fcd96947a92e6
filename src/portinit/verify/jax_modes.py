"""JAX's modes: call by call, and all cells of a dtype in one compiled function."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from portinit.verify.cases import LAYOUTS, Cell, key
from portinit.verify.devices import Device

_KEYS = 2  # that vmap and scan draw for


def eager(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """One call a cell: portinit compiles each by itself."""
    with precision(cells):
        return [_on_host(_draw(cells, raw_key(device))) for cells in ([cell] for cell in cells)]


def jit(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """All cells in one function, whose argument is the key."""
    with precision(cells):
        function = _jax().jit(lambda key: _draw(cells, key))
        return [[array] for array in _on_host(function(raw_key(device)))]


def vmap(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """Over several keys at once."""
    return _over_keys(device, cells, _KEYS, lambda draw: _jax().vmap(draw))


def scan(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """In the body of a loop over keys."""

    def loop(draw: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda keys: _jax().lax.scan(lambda carry, key: (carry, draw(key)), 0, keys)[1]

    return _over_keys(device, cells, _KEYS, loop)


def shard_map(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """On a mesh of all the platform's devices, each drawing for a key of its own."""
    jax = _jax()
    devices = jax.devices(device.native.platform)
    mesh = jax.make_mesh((len(devices),), ("keys",), (jax.sharding.AxisType.Auto,), devices=devices)
    spec = jax.sharding.PartitionSpec("keys")

    def mapped(draw: Callable[[Any], Any]) -> Callable[[Any], Any]:
        inside = lambda keys: [array[None] for array in draw(keys[0])]  # noqa: E731
        function: Callable[[Any], Any] = jax.shard_map(
            inside, mesh=mesh, in_specs=spec, out_specs=spec
        )
        return function

    return _over_keys(None, cells, len(devices), mapped)


def in_another_mesh(device: Device) -> str | None:
    """A mesh holds all of a platform's devices: it is run once, with the first."""
    first = _jax().devices(device.native.platform)[0]
    return None if device.native == first else f"run with {first}"


def _over_keys(
    device: Device | None, cells: Sequence[Cell], count: int, wrap: Callable[[Any], Any]
) -> Iterable[Sequence[Any]]:
    with precision(cells):
        keys = _put(np.asarray([key(n).words for n in range(count)], np.uint32), device)
        function = _jax().jit(wrap(lambda key: _draw(cells, key)))
        return [[*array] for array in _on_host(function(keys))]


def _draw(cells: Sequence[Cell], key: Any) -> list[Any]:
    return [
        cell.initializer(key, cell.shape, cell.dtype, layout=LAYOUTS[cell.layout]) for cell in cells
    ]


def raw_key(device: Device) -> Any:
    """The key of the matrix as raw words, on a device."""
    return _put(np.asarray(key().words, np.uint32), device)


def _put(words: np.ndarray[Any, Any], device: Device | None) -> Any:
    return _jax().device_put(words, None if device is None else device.native)


def _on_host(arrays: Iterable[Any]) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(array) for array in arrays]


def precision(cells: Sequence[Cell]) -> Any:
    """A context with 64-bit mode where the cells' dtype needs it."""
    return _jax().enable_x64(cells[0].dtype in ("float64", "complex128"))


def _jax() -> Any:
    return importlib.import_module("jax")
