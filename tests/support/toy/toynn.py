"""A small library of layers in NumPy, whose adapter was written by docs/adding-a-framework.md.

It has its own words and layouts: kernels are (inputs, outputs), and images have channels last.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Module:
    """Holds arrays and modules as attributes, in the order in which they are set."""

    def __call__(self, *args: Any) -> Any:
        raise NotImplementedError


class Dense(Module):
    def __init__(self, inputs: int, outputs: int, dtype: Any = "float32") -> None:
        self.w = np.zeros((inputs, outputs), dtype)
        self.b = np.zeros(outputs, dtype)

    def __call__(self, x: Array) -> Array:
        y: Array = x @ self.w + self.b
        return y


class Conv(Module):
    """A convolution of images, channels last, without padding: (rows, columns, in, out)."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int], dtype: Any = "float32"):
        self.w = np.zeros((*size, inputs, outputs), dtype)
        self.b = np.zeros(outputs, dtype)

    def __call__(self, x: Array) -> Array:
        rows, columns = self.w.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(1, 2))
        y: Array = np.einsum("bhwcij,ijcd->bhwd", windows, self.w) + self.b
        return y


class Table(Module):
    def __init__(self, rows: int, features: int, dtype: Any = "float32") -> None:
        self.rows = np.zeros((rows, features), dtype)

    def __call__(self, x: Array) -> Array:
        y: Array = self.rows[x]
        return y


class Norm(Module):
    def __init__(self, features: int, dtype: Any = "float32") -> None:
        self.gain, self.shift = np.ones(features, dtype), np.zeros(features, dtype)

    def __call__(self, x: Array) -> Array:
        x = x - x.mean(-1, keepdims=True)
        y: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * self.gain + self.shift
        return y
