"""Shifts of words to the right that bring in zeros, and rotations, for arrays of signed words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from array_api_compat import is_jax_array, is_numpy_array


def logical_shift_right(x: Any, distance: int, bits: int = 32) -> Any:
    """``x`` read as unsigned, shifted to the right.

    NumPy and JAX read the bits of an array as unsigned words at no cost. Elsewhere an arithmetic
    shift and a mask do the same; torch has no shifts of unsigned words on a CPU.

    Args:
        x: a Python integer in [0, 2**bits), or an array of signed words.
        distance: in [1, bits).
        bits: the width of a word.
    """
    if not isinstance(x, int) and (is_jax_array(x) or is_numpy_array(x)):
        return (x.view(f"uint{bits}") >> distance).view(f"int{bits}")
    return (x >> distance) & ((1 << (bits - distance)) - 1)


def rotate_left(x: Any, distance: int, wrap: Callable[[Any], Any]) -> Any:
    """A 32-bit word's bits, rotated to the left.

    In JAX both shifts are of unsigned words. Some rotations of a cipher then have a distance in
    common, and XLA limits how many different constants one pass over a GPU's memory may have.

    Args:
        x: a Python integer in [0, 2**32), or an array of signed words.
        distance: in [1, 32).
        wrap: reduces a left shift to 32 bits; needed for Python integers only.
    """
    if not isinstance(x, int) and is_jax_array(x):
        word = x.view("uint32")
        return ((word << distance) | (word >> (32 - distance))).view("int32")
    return wrap(x << distance) | logical_shift_right(x, 32 - distance)
