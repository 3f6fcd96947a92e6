"""What portinit computes, written a second time, and the golden vectors made from it.

    python tests/golden/make.py

writes the JSON files beside it. Nothing of portinit is imported and nothing is shared with it:
this file has Python's integers and fractions, which do not round, and mpmath, which rounds to 60
digits. Each function below is the definition of a step, as plainly as it can be written. It is
slow, and serves a few values.

The definitions, in short:

* A **word** is Threefry-2x32-20 of a 64-bit counter, the element's flat row-major index in
  PyTorch's shape, under a key of 64 bits; both halves exclusive-ored. Words of 64 bits are both
  halves side by side. A second stream has the counter's top bit set.
* **Uniform** on [-b, b): the word, read as signed, without its 8 low bits, times b / 2**23. On
  [0, b): the same, counted from 0, times b / 2**24. On another [a, b): a plus the word's share of
  b - a, in fixed point.
* **Normal**: the word, read as signed, is the rank c of a value among 2**32. The quantile of
  (c + 1/2) / 2**32 + 1/2 is linear in each of 2048 segments to an octave of the tail probability.
  A segment's line comes from polynomials whose coefficients and roundings are part of the
  definition.
* **Truncated**: only the ranks between the bounds' own are drawn.
* One conversion to float32 and one multiplication end each of them, both rounded to nearest.
"""

import json
import math
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import mpmath as mp

mp.mp.dps = 60

MASK = 2**32 - 1


# Words


def threefry2x32(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 20 rounds, as in Salmon et al., SC 2011, section 3."""
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    subkeys = [*key, 0x1BD11BDA ^ key[0] ^ key[1]]
    x0, x1 = (counter[0] + subkeys[0]) & MASK, (counter[1] + subkeys[1]) & MASK
    for done in range(1, 21):
        x0 = (x0 + x1) & MASK
        turn = rotations[(done - 1) % 8]
        x1 = ((x1 << turn | x1 >> (32 - turn)) & MASK) ^ x0
        if done % 4 == 0:
            injection = done // 4
            x0 = (x0 + subkeys[injection % 3]) & MASK
            x1 = (x1 + subkeys[(injection + 1) % 3] + injection) & MASK
    return x0, x1


def word(seed: int, index: int, bits: int = 32, second_stream: bool = False) -> int:
    """The unsigned word of an element, under the key of a seed."""
    counter = index + (second_stream << 63)
    a, b = threefry2x32((seed >> 32, seed & MASK), (counter >> 32, counter & MASK))
    return a ^ b if bits == 32 else a << 32 | b


def signed(value: int, bits: int = 32) -> int:
    """An unsigned word, read as two's complement."""
    return value - 2**bits if value >= 2 ** (bits - 1) else value


# Rounding

PRECISION = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}
MIN_EXPONENT = {"float64": -1022, "float32": -126, "bfloat16": -126, "float16": -14}


def exact(x: Any) -> Fraction:
    """The value of a number, as a fraction."""
    if not isinstance(x, mp.mpf):
        return Fraction(x)
    sign, mantissa, exponent, _ = x._mpf_
    return Fraction((-1) ** sign * int(mantissa)) * Fraction(2) ** int(exponent)


def step_at(x: Fraction, dtype: str) -> Fraction:
    """The distance between a format's numbers around x."""
    exponent = MIN_EXPONENT[dtype]
    while Fraction(2) ** (exponent + 1) <= abs(x):
        exponent += 1
    return Fraction(2) ** (exponent - PRECISION[dtype] + 1)


def nearest(x: Any, dtype: str) -> Fraction:
    """The format's number nearest to x, ties to even."""
    x = exact(x)
    step = step_at(x, dtype)
    return round(x / step) * step


def fixed(x: Any, fraction_bits: int) -> int:
    """x with so many fraction bits, rounded to nearest, ties upwards."""
    return math.floor(exact(x) * Fraction(2) ** fraction_bits + Fraction(1, 2))


def fraction_bits_for(magnitude: float, bits: int = 32) -> int:
    """How many fraction bits leave a magnitude below 2**(bits - 2)."""
    return min(bits - 2 - math.frexp(magnitude)[1], 126 if bits == 32 else 1022)


def product(integer: int, scale: Any, dtype: str) -> Fraction:
    """The one conversion and the one multiplication, each rounded; then the dtype's rounding."""
    work = "float64" if dtype == "float64" else "float32"
    return nearest(nearest(nearest(integer, work) * nearest(scale, work), work), dtype)


# The normal quantile, in fixed point


@cache
def upper_quantile(p: Fraction) -> mp.mpf:
    """z with P(Z > z) = p, through the inverse error function."""
    return mp.sqrt(2) * mp.erfinv(1 - 2 * mp.mpf(p.numerator) / p.denominator)


def tail(c: int, bits: int) -> tuple[int, int]:
    """The sign of a rank's quantile, and its tail probability times 2**bits, made odd."""
    return (-1, (c + 2 ** (bits - 1)) | 1) if c < 0 else (1, (2 ** (bits - 1) - 1 - c) | 1)


def segment(m: Fraction, per_octave: int) -> tuple[Fraction, Fraction]:
    """Start and length of the segment that m lies in."""
    octave = Fraction(2) ** (math.floor(m).bit_length() - 1)
    length = octave / per_octave
    return m - (m - octave) % length, length


def quantile32(c: int) -> int:
    """The quantile of a rank, 28 fraction bits."""
    sign, odd = tail(c, 32)
    m = nearest(odd, "float32")
    start, length = segment(m, 2048)
    value, half = line(start + length / 2)
    # The position counts in steps of float32, 2**12 to a segment.
    steps = (m - start) / length * 2**12
    return sign * (value + math.floor(half * steps / 2**11))


# The polynomials' coefficients, the constant's last; each is rounded to float32.
CORRECTION = [372734.3, -780376.3, 1095542.8, -1765831.0, 3092869.5, -5588871.5, 10747800.0]
CORRECTION += [-23258126.0]
HAZARD = [-0.000100578254, 0.002220091, -0.020653328, 0.10841011, 0.63735276, 0.7978207]
NEAR = [0.66102475, -4.5339794, 47.440945, -124.30007, -459.8392, 9413.861, 39624.188]
NEAR += [-158688.05, 956989.94]
FAR = [0.023233673, 0.520244, 4.334154, 8.117673, -172.16681, -2041.9937, -9183.89, 63321.746]
FAR += [2262269.5]
OUTERMOST = [-5.1247937e-08, 1.3655353e-05, 0.00021793925, 0.0056141005, 0.19651526, 6.2365966]
OUTERMOST += [209.90285, 7893.1865, 367219.97]


@cache
def line(m: Fraction) -> tuple[int, int]:
    """The quantile at the start of the segment whose middle is m, and half of its rise."""
    octave = math.floor(m).bit_length() - 1
    f = m / 2**octave
    # t is a + log2(m) - 4 m / 2**32 of 26 fraction bits, modulo 2**32; log2(f) is f - 1 and more.
    x = f - single(1.442695)
    more = truncated_to_zero(times(times(polynomial(CORRECTION, x), x), x))
    linear = math.floor((127 + octave + f - 1) * 2**26) + more + math.floor(m / 2**4)
    if m < 2**20:
        a, slope, value, curvature = -423789827, 2, 1441517817, OUTERMOST
    elif m < 15 * 2**24:
        a, slope, value, curvature = -1619343156, 4, 636626084, FAR
    else:
        a, slope, value, curvature = -1906167611, 5, 309618234, NEAR
    t = signed((linear + a) % 2**32)
    x = single(t) / 2**26
    curved = truncated_to_zero(times(times(polynomial(curvature, x), x), x))
    z = value - t * slope // 4 - curved
    # The rise is 1 / (hazard * f), by Newton's method from a guess at the reciprocal's bits.
    product = times(polynomial(HAZARD, single(z) / 2**28), f)
    reciprocal = from_bits(0x7EF311C3 - to_bits(product))
    for _ in range(2):
        reciprocal = times(reciprocal, single(2 - cleared(times(product, reciprocal))))
    half = truncated_to_zero(-reciprocal * 2**16)
    return z - half, half


def single(x: Any) -> Fraction:
    """The float32 nearest to x, ties to even."""
    x = Fraction(x)
    if x == 0:
        return x
    step = last_place(x)
    return round(x / step) * step


def last_place(x: Fraction) -> Fraction:
    """The distance between the float32 numbers from the power of two at or below abs(x) on."""
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    while Fraction(2) ** exponent > abs(x):
        exponent -= 1
    while Fraction(2) ** (exponent + 1) <= abs(x):
        exponent += 1
    return Fraction(2) ** (exponent - 23)


def times(x: Fraction, y: Fraction) -> Fraction:
    """A product of float32."""
    return single(x * y)


def cleared(x: Fraction) -> Fraction:
    """A float32 whose last significant bit is made 0."""
    return Fraction(0) if x == 0 else x - x % (2 * last_place(x)) if x > 0 else -cleared(-x)


def polynomial(coefficients: list[float], x: Fraction) -> Fraction:
    """By Horner's rule in float32, each product without its last bit."""
    total = single(coefficients[0])
    for coefficient in coefficients[1:]:
        total = single(cleared(times(total, x)) + single(coefficient))
    return total


def truncated_to_zero(x: Fraction) -> int:
    """x without its fraction."""
    return math.trunc(x)


def to_bits(x: Fraction) -> int:
    """The bits of a positive float32."""
    step = last_place(x)
    exponent = step.numerator.bit_length() - step.denominator.bit_length() + 23
    return (exponent + 127 << 23) + int(x / step) - 2**23


def from_bits(bits: int) -> Fraction:
    """The positive float32 of some bits."""
    return Fraction(2**23 + bits % 2**23) * Fraction(2) ** ((bits >> 23) - 127 - 23)


def quantile64(c: int) -> int:
    """The quantile of a rank of 64 bits, 59 fraction bits."""
    sign, odd = tail(c, 64)
    m = nearest(odd, "float64")
    start, length = segment(m, 64)
    t = (m - start) / length
    z = 0
    for coefficient in reversed(quintic(start, length)):
        z = coefficient + math.floor(z * t)
    return sign * z


@cache
def quintic(start: Fraction, length: Fraction) -> list[int]:
    """Coefficients of the polynomial in t through the quantile at six Chebyshev nodes."""
    nodes = [(1 - mp.cos(mp.pi * (2 * i + 1) / 12)) / 2 for i in range(6)]
    total = [mp.mpf(0)] * 6
    for node in nodes:
        basis = [upper_quantile((start + length * exact(node)) / 2**64)]
        for other in nodes:
            if other is not node:  # Lagrange's factor (t - other) / (node - other)
                lifted, lowered = [mp.mpf(0), *basis], [*(b * other for b in basis), mp.mpf(0)]
                basis = [(a - b) / (node - other) for a, b in zip(lifted, lowered, strict=True)]
        total = [a + b for a, b in zip(total, basis, strict=True)]
    return [int(mp.nint(c * 2**59)) for c in total]


def first_rank(z: int) -> int:
    """The smallest rank whose quantile is at least z."""
    low, high = -(2**31), 2**31
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if quantile32(middle) >= z else (middle + 1, high)
    return low


# Distributions: from a word to a value


def uniform(w: int, dtype: str, a: float, b: Any) -> Fraction:
    """U[a, b)."""
    bits = 64 if dtype == "float64" else 32
    mantissa = PRECISION["float64" if bits == 64 else "float32"]
    top = math.floor(Fraction(signed(w, bits), 2 ** (bits - mantissa)))
    if a == -b:
        x = product(top, exact(b) / 2 ** (mantissa - 1), dtype)
    elif a == 0:
        x = product(top + 2 ** (mantissa - 1), exact(b) / 2**mantissa, dtype)
    else:
        point = fraction_bits_for(max(abs(a), abs(b)), bits)
        low, high = fixed(a, point), fixed(b, point)
        share = (signed(w, bits) + 2 ** (bits - 1)) * (high - low) // 2**bits
        x = product(low + share, Fraction(2) ** -point, dtype)
    return within(x, a, b, dtype)


def within(x: Fraction, a: Any, b: Any, dtype: str) -> Fraction:
    """x, moved to the nearest number of the dtype in [a, b)."""
    a, b = exact(a), exact(b)
    while x < a:
        x += step_at(x, dtype)
    while x >= b:
        # Below a power of two the numbers lie closer together than above it.
        x -= min(step_at(x, dtype), step_at(x - step_at(x, dtype), dtype))
    return x


def normal(w: int, dtype: str, mean: float, std: Any) -> Fraction:
    """N(mean, std^2)."""
    if dtype == "float64":
        return product(quantile64(signed(w, 64)), exact(std) / 2**59, dtype)
    return affine(quantile32(signed(w)), dtype, mean, std)


def affine(z: int, dtype: str, mean: float, std: Any) -> Fraction:
    """mean + std * z, for a z of 28 fraction bits."""
    if mean == 0:
        return product(z, exact(std) / 2**28, dtype)
    point = fraction_bits_for(abs(mean) + 16 * std)
    factor = fixed(std, point + 4)
    return product(fixed(mean, point) + z * factor // 2**32, Fraction(2) ** -point, dtype)


def truncated(w: int, dtype: str, cut: tuple[float, float], mean: float, std: Any) -> Fraction:
    """N(mean, std^2), cut at two multiples of the standard deviation from the mean."""
    first, last = first_rank(fixed(cut[0], 28)), first_rank(fixed(cut[1], 28) + 1)
    c = first + (signed(w) + 2**31) * (last - first) // 2**32
    return affine(quantile32(c), dtype, mean, std)


# The vectors

SEEDS = [0, 0xDEADBEEF12345678]
COUNT = 8

UNIFORM = [
    ("float32", {"a": -1.0, "b": 1.0}),
    ("float32", {"a": 0.0, "b": 0.1}),
    ("float32", {"a": 2.0, "b": 3.5}),
    ("bfloat16", {"a": -0.05, "b": 0.05}),
    ("float16", {"a": 0.0, "b": 1.0}),
    ("float64", {"a": -1.0, "b": 1.0}),
]
NORMAL = [
    ("float32", {"mean": 0.0, "std": 1.0}),
    ("float32", {"mean": 0.0, "std": 0.02}),
    ("float32", {"mean": 1.0, "std": 0.1}),
    ("bfloat16", {"mean": 0.0, "std": 0.02}),
    ("float16", {"mean": 0.0, "std": 0.02}),
    ("float64", {"mean": 0.0, "std": 1.0}),
]
TRUNCATED = [
    ("float32", {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0}),
    ("float32", {"mean": 0.5, "std": 0.25, "a": 0.25, "b": 1.25}),
    ("bfloat16", {"mean": 0.0, "std": 1.0, "a": -1.0, "b": 3.0}),
]
# std of a standard normal cut at two: sqrt(1 - 4 phi(2) / (2 Phi(2) - 1)).
CUT_STD = mp.sqrt(1 - 4 * mp.npdf(2) / (2 * mp.ncdf(2) - 1))

# A (4, 2) weight of PyTorch's has fan_in 2 and fan_out 4, so Xavier's bound is its gain.
SCHEMES: list[tuple[str, dict[str, Any], str, mp.mpf]] = [
    ("xavier_uniform", {"gain": 0.7}, "uniform", mp.mpf(0.7)),
    ("xavier_normal", {"gain": 2.0}, "normal", 2 * mp.sqrt(mp.mpf(2) / 6)),
    ("kaiming_uniform", {"nonlinearity": "relu"}, "uniform", mp.sqrt(mp.mpf(6) / 2)),
    ("kaiming_normal", {"mode": "fan_out"}, "normal", mp.sqrt(mp.mpf(2) / 4)),
    ("he_normal", {}, "truncated", mp.sqrt(mp.mpf(2) / 2) / CUT_STD),
    ("lecun_normal", {}, "truncated", mp.sqrt(mp.mpf(1) / 2) / CUT_STD),
    ("glorot_uniform", {}, "uniform", mp.sqrt(mp.mpf(3) / 3)),
]


def case(name: str, arguments: dict[str, Any], seed: int, dtype: str, **values: Any) -> Any:
    """One row of a file."""
    return {"initializer": name, "arguments": arguments, "seed": seed, "dtype": dtype, **values}


def vector(seed: int, dtype: str, sample: Any) -> dict[str, Any]:
    """The first values of a stream, as hexadecimal floats."""
    bits = 64 if dtype == "float64" else 32
    return {"values": [float(sample(word(seed, i, bits), dtype)).hex() for i in range(COUNT)]}


def words_file() -> list[Any]:
    """Words, at small counters and at some beyond 32 bits, in both streams."""
    counters = [0, 1, 2, 3, 2**32 - 1, 2**32, 2**40 + 5, 2**63 - 1]
    return [
        {
            "seed": seed,
            "bits": bits,
            "second_stream": second,
            "counters": counters,
            "words": [hex(word(seed, i, bits, second)) for i in counters],
        }
        for seed in SEEDS
        for bits, second in ((32, False), (32, True), (64, False))
    ]


def distribution_file(name: str, table: list[Any], sample: Any) -> list[Any]:
    """The first values of a distribution."""
    return [
        case(name, arguments, seed, dtype, **vector(seed, dtype, partial(sample, **arguments)))
        for dtype, arguments in table
        for seed in SEEDS
    ]


def truncated_between(
    w: int, dtype: str, *, mean: float, std: float, a: float, b: float
) -> Fraction:
    """N(mean, std^2), cut at absolute bounds."""
    return truncated(w, dtype, ((a - mean) / std, (b - mean) / std), mean, std)


def _scheme_value(kind: str, parameter: mp.mpf, w: int, dtype: str) -> Fraction:
    if kind == "uniform":
        return uniform(w, dtype, -parameter, parameter)
    if kind == "normal":
        return normal(w, dtype, 0.0, parameter)
    return truncated(w, dtype, (-2.0, 2.0), 0.0, parameter)


def schemes_file() -> list[Any]:
    """Named schemes on a weight of PyTorch's shape (4, 2)."""
    rows = []
    for name, arguments, kind, parameter in SCHEMES:
        sample = partial(_scheme_value, kind, parameter)
        rows += [
            case(name, arguments, seed, "float32", **vector(seed, "float32", sample))
            for seed in SEEDS
        ]
    return rows


def write(name: str, rows: list[Any]) -> None:
    """A JSON list, one row a line."""
    text = ",\n".join(json.dumps(row) for row in rows)
    Path(__file__).with_name(f"{name}.json").write_text(f"[\n{text}\n]\n", encoding="utf-8")


def main() -> None:
    """Write all files."""
    write("words", words_file())
    write("uniform", distribution_file("uniform", UNIFORM, uniform))
    write("normal", distribution_file("normal", NORMAL, normal))
    write("trunc_normal", distribution_file("trunc_normal", TRUNCATED, truncated_between))
    write("schemes", schemes_file())


if __name__ == "__main__":
    main()
