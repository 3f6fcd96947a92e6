"""Arrays of any framework in NumPy, and numbers from one dtype to another.

The references are PyTorch's own conversions, ml_dtypes' and Python's exact integers.
"""

import ml_dtypes
import numpy as np
import pytest
import torch

from portinit.arrays.convert import converted, overflows, to_numpy

VALUES = [0.0, -0.0, 1.0, -1.5, 3.14159265, 1e-3, 448.0, 65504.0, 57344.0, float("nan")]
VALUES += [float("inf"), -float("inf"), 1e-40]
NARROW = ["float32", "float16", "bfloat16", "float8_e5m2"]


@pytest.mark.parametrize("dtype", [*NARROW, "float64"])
@pytest.mark.parametrize("given", ["float64", "float32", "bfloat16", "float16"])
def test_floats_are_rounded_as_pytorch_rounds_them(given, dtype):
    fits = [v for v in VALUES if not abs(v) > 50000 or np.isinf(v)]
    tensor = torch.tensor(fits, dtype=torch.float64).to(getattr(torch, given))
    ours = converted(to_numpy(tensor), dtype)
    assert ours.dtype.name == dtype
    theirs = tensor.to(getattr(torch, dtype))
    np.testing.assert_array_equal(ours.astype(np.float64), theirs.double().numpy())


@pytest.mark.parametrize(
    ("dtype", "largest"),
    [
        ("float8_e4m3fn", 448.0),
        ("float8_e5m2", 57344.0),
        ("float16", 65504.0),
        ("bfloat16", float(ml_dtypes.finfo(ml_dtypes.bfloat16).max)),
        ("float32", float(np.finfo(np.float32).max)),
    ],
)
def test_finite_numbers_that_overflow_become_the_largest(dtype, largest):
    given = np.array([1e300, -1e300, largest, 1.0])
    ours = converted(given, dtype).astype(np.float64)
    np.testing.assert_array_equal(ours, [largest, -largest, largest, 1.0])
    assert overflows(given, dtype) == 2
    assert overflows(np.array([np.inf, np.nan, largest]), dtype) == 0
    halves = converted(np.array([1e300 - 2j, 1j]), "complex64")
    np.testing.assert_array_equal(halves, [np.finfo(np.float32).max - 2j, 1j])


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_numbers_for_complex32_are_within_its_range():
    given = np.array([1e300 - 2j, 1j, complex(np.inf, -7e4)])
    ours = torch.from_numpy(converted(given, "complex32")).to(torch.complex32)
    assert ours.tolist() == [65504 - 2j, 1j, complex(np.inf, -65504)]
    assert overflows(given, "complex32") == 2


def test_rounding_to_the_largest_is_no_overflow():
    # float16's next number would be 65536; half way to it numbers begin to round to infinity.
    assert overflows(np.array([65519.9]), "float16") == 0
    assert overflows(np.array([65520.0]), "float16") == 1


@pytest.mark.parametrize("value", [2**40 + 3, 2**53 + 1, -(2**62) - 1, 2**63 - 1])
def test_integers_are_rounded_once(value):
    # Python rounds an integer to a float once, and to nearest; NumPy's float32 rounds that again.
    assert converted(np.array([value]), "float64")[0] == float(value)
    exact = min(
        (np.float32(float(value)), np.nextafter(np.float32(float(value)), np.float32(0))),
        key=lambda x: abs(int(x) - value),
    )
    assert converted(np.array([value]), "float32")[0] == exact
    assert converted(np.array([value]), "int64")[0] == value


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (np.array([1j]), "float32"),
        (np.array([1.5]), "int64"),
        (np.array([np.nan]), "int32"),
        (np.array([2.0**63]), "int64"),
        (np.array([-1]), "uint8"),
        (np.array([256]), "uint8"),
        (np.array([2**40]), "int32"),
        (np.array([2]), "bool"),
        (np.array([1 + 0j]), "int8"),
    ],
)
def test_numbers_that_a_dtype_lacks_are_refused(given, dtype):
    with pytest.raises(ValueError, match=r"complex numbers|must be integers"):
        converted(given, dtype)


def test_integers_that_a_dtype_has_are_kept():
    assert converted(np.array([3.0, -2.0]), "int8").tolist() == [3, -2]
    assert converted(np.array([2**63], np.uint64), "uint64").tolist() == [2**63]
    assert converted(np.array([1, 0]), "bool").tolist() == [True, False]
    assert converted(np.array(5), "float16").shape == ()
    assert converted(np.array(1e300), "float16").item() == 65504


def test_tensors_of_every_kind_become_numpy_s():
    matrix = torch.tensor([[1 + 2j, 3j], [0, 1]])
    np.testing.assert_array_equal(to_numpy(matrix.conj().T), matrix.numpy().conj().T)
    negative = torch._neg_view(torch.tensor([1.0, -2.0]))
    np.testing.assert_array_equal(to_numpy(negative), [-1.0, 2.0])
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz):
        tensor = torch.tensor([[1.0, -0.5], [3.0, 0.0]]).to(dtype)
        np.testing.assert_array_equal(to_numpy(tensor.T).astype(np.float32), tensor.T.float())
    parameter = torch.nn.Parameter(torch.ones(2))
    assert to_numpy(parameter).tolist() == [1.0, 1.0]


UNREADABLE = {
    "sparse": lambda: torch.eye(2).to_sparse(),
    "csr": lambda: torch.eye(2).to_sparse_csr(),
    "quantized": lambda: torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8),
    "complex32": lambda: torch.eye(2).to(torch.complex32),
    "meta": lambda: torch.empty(2, 2, device="meta"),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
}


@pytest.mark.parametrize("make", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.filterwarnings("ignore")  # of what PyTorch calls beta, prototype or deprecated
def test_tensors_without_plain_values_are_refused(make):
    with pytest.raises((TypeError, ValueError), match="a tensor must"):
        to_numpy(make())
