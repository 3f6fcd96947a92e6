"""Operations on draws: each is carried bit for bit, or carried nearly and named in a warning."""

import warnings
from collections.abc import Callable

import pytest
import torch
from tests.support.traces import Holder, compare
from torch import nn

from portinit.replay.torch_math import mkl
from portinit_torch import InexactWarning, trace

F = nn.functional
Make = Callable[[], torch.Tensor]


def places(rows: int, columns: int, below: int) -> torch.Tensor:
    return torch.randint(0, below, (rows, columns))


def spd() -> torch.Tensor:
    w = torch.randn(4, 4)
    return w @ w.T + 4 * torch.eye(4)


def mask_put() -> torch.Tensor:
    x = torch.randn(4, 5)
    x[x > 0] = torch.rand(())
    return x


def mask_put_many() -> torch.Tensor:
    x, kept = torch.zeros(4, 5), torch.eye(4, 5, dtype=torch.bool)
    x[kept] = torch.randn(4)
    return x


def put_accumulated() -> torch.Tensor:
    return torch.zeros(6).index_put_((torch.randint(0, 6, (40,)),), torch.randn(40), True)


def a_negative_diagonal() -> torch.Tensor:
    return torch.randn(4, 5).diagonal_scatter(torch.rand(4), 1)


def complex_parts() -> torch.Tensor:
    z = torch.randn(5, dtype=torch.cfloat)
    return torch.stack([z.real, z.conj().imag, -z.imag])


EXACT: dict[str, Make] = {
    "index_put_ accumulates": put_accumulated,
    "index_add": lambda: torch.zeros(4, 5).index_add(1, places(1, 9, 5)[0], torch.randn(4, 9)),
    "index_fill": lambda: torch.randn(4, 5).index_fill_(1, torch.randperm(5)[:2], 0.5),
    "index_copy": lambda: torch.zeros(4, 5).index_copy_(1, torch.randperm(5), torch.randn(4, 5)),
    "scatter_add": lambda: torch.zeros(4, 5).scatter_add(1, places(4, 9, 5), torch.randn(4, 9)),
    "scatter_reduce": lambda: torch.zeros(4, 5).scatter_reduce(
        0, places(7, 5, 4), torch.randn(7, 5), "amax"
    ),
    "masked_scatter": lambda: torch.zeros(4, 5).masked_scatter(
        torch.rand(4, 5) > 0.5, torch.randn(20)
    ),
    "masked_fill of a drawn value": lambda: torch.randn(4, 5).masked_fill(
        torch.rand(4, 5) > 0.5, torch.rand(())
    ),
    "a mask and a drawn value": mask_put,
    "a known mask and drawn values": mask_put_many,
    "put": lambda: torch.zeros(4, 5).put_(torch.randperm(20)[:5], torch.randn(5)),
    "take": lambda: torch.take(torch.randn(4, 5), torch.randperm(20)),
    "take_along_dim": lambda: torch.take_along_dim(torch.randn(4, 5), torch.rand(4, 5).argsort(1)),
    "diagonal_scatter": a_negative_diagonal,
    "slice_scatter": lambda: torch.randn(6, 4).slice_scatter(torch.rand(2, 4), 0, 1, 5, 2),
    "select_scatter": lambda: torch.randn(6, 4).select_scatter(torch.rand(6), 1, -1),
    "kthvalue": lambda: torch.rand(3, 50).kthvalue(5, 1).values,
    "median": lambda: torch.rand(50).median(),
    "the place of a median": lambda: torch.rand(3, 50).median(1, keepdim=True).indices,
    "quantile": lambda: torch.rand(50).msort()[[0, 7]],
    "cummax": lambda: torch.randn(4, 9).cummax(1).values,
    "searchsorted": lambda: torch.searchsorted(torch.rand(9).msort(), torch.rand(4, 3)),
    "bucketize": lambda: torch.bucketize(torch.rand(9), torch.linspace(0, 1, 5), right=True),
    "rot90": lambda: torch.randn(4, 3).rot90(),
    "rot90 thrice": lambda: torch.randn(4, 3, 2).rot90(3, [0, 2]),
    "block_diag": lambda: torch.block_diag(torch.randn(2, 2), torch.randn(3), torch.ones(2, 1)),
    "copysign": lambda: torch.copysign(torch.rand(9), torch.randn(9)),
    "nextafter": lambda: torch.nextafter(torch.rand(9), torch.ones(9)),
    "fmax and fmin": lambda: torch.fmin(torch.fmax(torch.randn(9), torch.randn(9)), torch.ones(9)),
    "heaviside": lambda: torch.heaviside(torch.randn(9), torch.full((1,), 0.5)),
    "clamp between tensors": lambda: torch.randn(9).clamp(torch.rand(9) - 1, torch.rand(9)),
    "floor_divide": lambda: torch.floor_divide(torch.rand(99) * 9, 0.7),
    "nan_to_num": lambda: torch.nan_to_num(torch.randn(9).log()),
    "frac": lambda: (torch.randn(99) * 5).frac(),
    "leaky_relu": lambda: F.leaky_relu(torch.randn(99), 0.3),
    "hardtanh": lambda: F.hardtanh(torch.randn(99)),
    "a norm of order 0": lambda: torch.randn(4, 9).relu().norm(0, dim=1),
    "a function of whole numbers": lambda: torch.randint(0, 9, (99,)).sqrt(),
    "parts of complex numbers": complex_parts,
    "multinomial with replacement": lambda: torch.multinomial(torch.rand(3, 80), 50, True),
    "multinomial of float64": lambda: torch.multinomial(torch.rand(7).double(), 500, True),
    "a categorical distribution": lambda: torch.distributions.Categorical(torch.rand(6)).sample(
        (9, 2)
    ),
    "a single expanded element": lambda: torch.rand(1, 3).expand(4, 3)[:, :1].median(),
}

BY_MKL: dict[str, Make] = {
    "a product with a transposed matrix": lambda: torch.randn(70, 90) @ torch.randn(60, 90).T,
    "a transposed product": lambda: torch.randn(90, 70).T @ torch.randn(60, 90).T,
    "a covariance": lambda: torch.cov(torch.randn(30, 99)),
}

NEAR: dict[str, Make] = {
    "eigenvalues": lambda: torch.linalg.eigh(spd())[0],
    "cholesky_inverse": lambda: torch.cholesky_inverse(torch.linalg.cholesky(spd())),
    "cholesky_solve": lambda: torch.cholesky_solve(torch.randn(4, 2), torch.linalg.cholesky(spd())),
    "logdet": lambda: torch.logdet(spd()),
    "a complete qr": lambda: torch.linalg.qr(torch.randn(6, 4), "complete")[0],
    "triangular_solve": lambda: torch.triangular_solve(torch.randn(4, 2), spd()).solution,
    "the factors of a stack": lambda: torch.linalg.lu(torch.randn(3, 4, 4))[2],
    "the factors of tall matrices": lambda: torch.linalg.lu(torch.randn(2, 5, 3))[1],
    "solved from the right": lambda: torch.linalg.solve(spd(), torch.randn(2, 4), left=False),
    "solved for a vector": lambda: torch.linalg.solve(spd(), torch.randn(4)),
    "a lower triangle of ones": lambda: torch.linalg.solve_triangular(
        spd(), torch.randn(4, 2), upper=False, unitriangular=True
    ),
    "an upper root": lambda: torch.linalg.cholesky(spd(), upper=True),
    "a product of complex matrices": lambda: (
        torch.randn(3, 4, dtype=torch.cfloat) @ torch.randn(4, 2, dtype=torch.cfloat)
    ),
    "the inverse of a complex matrix": lambda: torch.linalg.inv(
        torch.randn(3, 3, dtype=torch.cfloat)
    ),
    "addr": lambda: torch.addr(torch.randn(3, 4), torch.randn(3), torch.randn(4), alpha=0.3),
    "cross": lambda: torch.linalg.cross(torch.randn(4, 3), torch.randn(4, 3)),
    "addcmul": lambda: torch.addcmul(torch.randn(9), torch.randn(9), torch.rand(9), value=0.3),
    "addcdiv": lambda: torch.addcdiv(torch.randn(9), torch.randn(9), 1 + torch.rand(9), value=0.3),
    "a norm of order 3": lambda: torch.randn(4, 9).norm(3, dim=1),
    "logsumexp": lambda: torch.randn(4, 9).logsumexp(1),
    "logcumsumexp": lambda: torch.randn(4, 9).logcumsumexp(1),
    "the mean beside a variance": lambda: torch.var_mean(torch.randn(4, 9), 1)[1],
    "hypot": lambda: torch.hypot(torch.randn(9), torch.randn(9)),
    "logaddexp": lambda: torch.logaddexp(torch.randn(9), torch.randn(9)),
    "xlogy": lambda: torch.xlogy(torch.rand(9), torch.rand(9)),
    "logit": lambda: torch.rand(9).logit(1e-3),
    "erfc": lambda: torch.randn(9).erfc(),
    "asinh": lambda: torch.randn(9).asinh(),
    "a product of complex numbers": lambda: (
        torch.randn(9, dtype=torch.cfloat) * torch.randn(9, dtype=torch.cfloat) * 1j
    ),
    "an exponential of complex numbers": lambda: torch.exp(1j * torch.rand(9)),
    **{
        name: lambda name=name: getattr(F, name)(torch.randn(99))
        for name in ("silu", "gelu", "elu", "selu", "mish", "hardswish", "hardsigmoid")
    },
}


def holding(make: Make) -> Callable[[], nn.Module]:
    """A model with the value, and a draw behind it."""
    return lambda: nn.Sequential(Holder(value=make()), nn.Linear(3, 2))


@pytest.mark.parametrize("name", EXACT)
def test_bit_for_bit(name):
    compare(holding(EXACT[name]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", InexactWarning)
        trace(holding(EXACT[name]))


@pytest.mark.skipif(mkl.find((2, 13)) is None, reason="needs the MKL that PyTorch computes with")
@pytest.mark.parametrize("name", BY_MKL)
def test_bit_for_bit_with_mkl(name):
    compare(holding(BY_MKL[name]))


@pytest.mark.parametrize("name", NEAR)
def test_nearly_and_named(name):
    compare(holding(NEAR[name]), tolerance=2e-5)
    with pytest.warns(
        InexactWarning, match=r"1 parameters are carried.*\n  0\.value: torch rounds"
    ):
        trace(holding(NEAR[name]))


def test_one_warning_lists_what_is_near():
    def build() -> nn.Module:
        return nn.Sequential(*(Holder(w=torch.randn(3, 3).matrix_exp()) for _ in range(9)))

    with pytest.warns(InexactWarning) as caught:
        trace(build)
    (text,) = (str(w.message) for w in caught)
    assert text.splitlines() == [
        "9 parameters are carried, but a replay may miss their last bits:",
        "  0.w, 1.w, 2.w, 3.w, 4.w, 5.w and 3 more: torch rounds matrix_exp in an order of its own",
    ]
