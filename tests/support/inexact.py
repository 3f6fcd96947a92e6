"""Operations of StableHLO on floats: which are exact, and what two machines make of the others.

An operation that is named nowhere here is refused where it touches a float, so that a new one is
looked at before it is trusted.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """An operation whose result may differ between two machines.

    Attributes:
        op: its name in the compiler's language, such as ``stablehlo.divide``.
        why: what differs.
    """

    op: str
    why: str

    def __str__(self) -> str:
        return f"{self.op}: {self.why}"


_MOVES = (
    "abs broadcast_in_dim complex concatenate dynamic_slice dynamic_update_slice gather imag iota "
    "negate optimization_barrier pad real reshape return reverse select slice transpose"
)

# They move values, or change no more than a sign.
MOVES = {f"stablehlo.{name}" for name in _MOVES.split()} | {"func.return"}

# A comparison stands between a product and what follows it, and so nothing is fused across.
COMPARISONS = frozenset({"stablehlo.maximum", "stablehlo.minimum", "stablehlo.clamp"})

SUMS = frozenset({"stablehlo.add", "stablehlo.subtract"})

_FUNCTIONS = (
    "atan2 cbrt cosine exponential exponential_minus_one log log_plus_one logistic power sine tan "
    "tanh"
)
_CHLO = (
    "acos acosh asin asinh atan atanh bessel_i1e cosh digamma erf erf_inv erfc lgamma polygamma "
    "sinh square tan zeta"
)
_REDUCTIONS = (
    "all_reduce cholesky convolution dot dot_general dynamic_conv fft reduce reduce_scatter "
    "reduce_window scatter select_and_scatter triangular_solve"
)

FUNCTION = "each library and each device has its own approximation"
ROOT = "not correctly rounded on every device"
QUOTIENT = "division by a constant becomes multiplication by its reciprocal, rounded otherwise"
ORDER = "a sum of floats in an order that the compiler chooses"
SUM = "a sum of floats: what stands beside it is fused or folded into it"
FUSED = "a product feeds a sum: one fused operation rounds once, two operations round twice"
FOLDED = "a product of a product: the compiler folds the two factors into one"
GENERATOR = "a random generator of the device's own"
FOREIGN = "code that the platform supplies"
WIDE = "float64 in a computation of {dtype}"
LOOP = "a float goes round a loop, through any number of roundings"
WIDENED = "a rounding that is widened again: the compiler may drop it"
TO_NARROW = "an integer rounded to a format narrower than float32, once or twice"
TO_INTEGER = "a float beyond the integers' range becomes what the device makes of it"
DENORMAL = "arithmetic with a denormal number, which some devices flush to 0"
COMPLEX = "a product of complex numbers is a sum of products"
UNSTABLE = "a sort that may order equal keys either way"
UNKNOWN = "not known to be exact"

REASONS = {
    **{f"stablehlo.{name}": FUNCTION for name in _FUNCTIONS.split()},
    **{f"chlo.{name}": FUNCTION for name in _CHLO.split()},
    **{f"stablehlo.{name}": ORDER for name in _REDUCTIONS.split()},
    "stablehlo.sqrt": ROOT,
    "stablehlo.rsqrt": ROOT,
    "stablehlo.divide": QUOTIENT,
    "stablehlo.remainder": QUOTIENT,
}

# Refused whatever they work on.
ALWAYS = {
    "stablehlo.rng": GENERATOR,
    "stablehlo.rng_bit_generator": GENERATOR,
    "stablehlo.custom_call": FOREIGN,
}


def reason(op: str) -> str:
    """Why an operation on floats is not trusted."""
    return REASONS.get(op) or ALWAYS.get(op, UNKNOWN)
