"""Shifts of words to the right that bring in zeros, for arrays of signed words."""

from __future__ import annotations

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
