"""Fixed-point arithmetic on words, against Python's integers, in every namespace."""

from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from portinit.backends.registry import backend_of
from portinit.random.integers import binary_point, mulhi, mulhi_signed, to_fixed


def words(bits: int) -> list[int]:
    """Signed words: both ends, the middle, powers of two and what lies between."""
    top = 1 << (bits - 1)
    chosen = {-top, -top + 1, -1, 0, 1, top - 1, top // 2, -top // 2, top // 3, top // 2 + 1}
    return sorted(chosen | {x * 0x9E3779B97F4A7C15 % (2 * top) - top for x in range(30)})


@pytest.mark.parametrize("bits", [32, 64])
def test_the_high_half_of_a_product_is_pythons(
    bits: int, xp: ModuleType, to_numpy: Callable[[Any], Any]
) -> None:
    with jax.enable_x64(bits == 64):
        xp = backend_of(None, xp).xp
        a = xp.asarray(np.asarray(words(bits), f"int{bits}"))
        for b in (
            0,
            1,
            3,
            1 << (bits - 2),
            (1 << (bits - 1)) - 1,
            1 << (bits - 1),
            (1 << bits) - 1,
        ):
            unsigned = [(x % (1 << bits)) * b >> bits for x in words(bits)]
            assert (to_numpy(mulhi(a, b, bits)).view(f"u{bits // 8}") == unsigned).all()
            # As a signed word: the product of an unsigned b may need one bit more.
            signed = [(x * b >> bits) % (1 << bits) for x in words(bits)]
            assert (to_numpy(mulhi_signed(a, b, bits)).view(f"u{bits // 8}") == signed).all()


@pytest.mark.parametrize("fraction", [-3, -1, 0, 1, 40])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 12.5, -12.5, 1 / 3, 1e300, -4.0])
def test_a_number_is_rounded_to_fixed_point_with_halves_up(value: float, fraction: int) -> None:
    exact = Fraction(value) * Fraction(2) ** fraction
    assert to_fixed(value, fraction) == (exact + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize(("bits", "most"), [(32, 126), (64, 1022)])
def test_the_point_leaves_two_bits_and_no_denormal_step(bits: int, most: int) -> None:
    assert binary_point(1.0, bits) == bits - 3
    assert binary_point(0.99, bits) == bits - 2
    assert binary_point(2.0 ** (bits - 3 - most), bits) == most
    assert binary_point(2.0 ** (bits - 4 - most), bits) == most
