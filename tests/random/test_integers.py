"""Fixed-point arithmetic on words, against Python's integers, in every namespace."""

from collections.abc import Callable
from fractions import Fraction
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest

from portinit.backends.registry import backend_of
from portinit.random.integers import (
    binary_point,
    mulhi,
    mulhi_signed,
    scale_rank,
    scale_word,
    to_fixed,
)


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


def factors(bits: int) -> list[int]:
    """Unsigned words: about each multiple of a quarter of all, about half a word, and others."""
    quarter, half = 1 << (bits - 2), 1 << (bits // 2)
    steps = (0, 1, half // 2 - 1, half // 2, half // 2 + 1, half - 1, half)
    near = {
        (n * quarter + sign * step) % (4 * quarter)
        for n in range(4)
        for step in steps
        for sign in (-1, 1)
    }
    return sorted(near | {x * 0x9E3779B97F4A7C15 % (1 << bits) for x in range(40)})


@pytest.mark.parametrize("bits", [32, 64])
def test_words_are_scaled_as_python_scales_them(
    bits: int, xp: ModuleType, to_numpy: Callable[[Any], Any]
) -> None:
    """Whatever the factor: the sum in the middle never loses a bit."""
    top = 1 << (bits - 1)
    ends = [x + d for x in (-top, top - 1, 0, top // 2) for d in (-1, 0, 1) if -top <= x + d < top]
    given = [*ends, *((w & -(1 << bits // 2)) for w in words(bits)), *words(bits)]
    with jax.enable_x64(bits == 64):
        xp = backend_of(None, xp).xp
        a = xp.asarray(np.asarray(given, f"int{bits}"))
        for i, factor in enumerate(factors(bits)):
            offset = words(bits)[i % len(words(bits))]
            product = [(x * factor >> bits) + offset for x in given]
            rounded = [(x * factor + top >> bits) + offset for x in given]
            ranks = [((x + top) * factor >> bits) + offset for x in given]
            for found, exact in (
                (scale_word(a, factor, offset, bits), product),
                (scale_word(a, factor, offset, bits, nearest=True), rounded),
                (scale_rank(a, factor, offset, bits), ranks),
            ):
                unsigned = to_numpy(found).view(f"u{bits // 8}")
                assert (unsigned == [x % (2 * top) for x in exact]).all(), factor


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
