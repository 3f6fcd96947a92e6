"""Tensors that are not plain memory: their value is filled with NumPy's bits, or nothing is."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

import portinit
import portinit_torch
from portinit import recipes

KEY = portinit.key(5)
SHAPE = (4, 6)
Function = Callable[[torch.Tensor], torch.Tensor]

FILLS: dict[str, tuple[portinit.Initializer, Function]] = {
    "normal_": (
        portinit.normal(0.5, 0.3),
        lambda t: portinit_torch.normal_(t, 0.5, 0.3, key=KEY),
    ),
    "uniform_": (portinit.uniform(-1, 2), lambda t: portinit_torch.uniform_(t, -1, 2, key=KEY)),
    "trunc_normal_": (
        portinit.trunc_normal(),
        lambda t: portinit_torch.trunc_normal_(t, key=KEY),
    ),
    "xavier_uniform_": (
        portinit.xavier_uniform(),
        lambda t: portinit_torch.xavier_uniform_(t, key=KEY),
    ),
    "kaiming_normal_": (
        portinit.kaiming_normal(),
        lambda t: portinit_torch.kaiming_normal_(t, key=KEY),
    ),
    "sparse_": (portinit.sparse(0.4), lambda t: portinit_torch.sparse_(t, 0.4, key=KEY)),
    "eye_": (portinit.eye(), portinit_torch.eye_),
}
# torch.func.jvp and torch.jit.trace warn of torch.jit, which they use
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
every_fill = pytest.mark.parametrize("name", FILLS)


def old() -> torch.Tensor:
    return torch.full(SHAPE, 7.0)


def expected(name: str, dtype: str = "float32") -> torch.Tensor:
    """NumPy's values."""
    return torch.from_numpy(FILLS[name][0](KEY, SHAPE, dtype, layout="torch"))


class Plain(torch.Tensor):
    """A subclass that changes nothing."""


class Wrapper(torch.Tensor):
    """A subclass without memory of its own."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        def unwrapped(x: Any) -> Any:
            return x.inner if isinstance(x, Wrapper) else x

        out = func(*map(unwrapped, args), **(kwargs or {}))
        if func._schema.is_mutable:
            return args[0]
        return Wrapper(out) if isinstance(out, torch.Tensor) else out


class Writes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that write to one tensor's memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.storage, self.count = tensor.untyped_storage().data_ptr(), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable and args[0].untyped_storage().data_ptr() == self.storage:
            self.count += 1
        return func(*args, **(kwargs or {}))


class Module(torch.nn.Module):
    def __init__(self, fill: Function) -> None:
        super().__init__()
        self.fill = fill

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fill(x * 1)


def of_input(transform: Callable[[Function], Function]) -> Callable[[Function], torch.Tensor]:
    """What a transformed fill leaves in its own argument."""

    def run(fill: Function) -> torch.Tensor:
        given = old()
        transform(fill)(given)
        return given

    return run


def in_dual_level(fill: Function) -> torch.Tensor:
    with forward_ad.dual_level():
        made = forward_ad.make_dual(old(), torch.ones(SHAPE))  # type: ignore[no-untyped-call]
        primal, tangent = forward_ad.unpack_dual(fill(made))  # type: ignore[no-untyped-call]
        assert tangent is None or not tangent.any(), "what is drawn does not depend on anything"
        return primal.clone()


def in_inference_mode(fill: Function) -> torch.Tensor:
    with torch.inference_mode():
        return fill(old())


def of_wrapper(fill: Function) -> torch.Tensor:
    wrapped = Wrapper(old())
    assert fill(wrapped) is wrapped
    return wrapped.inner


def traced(mode: str) -> Callable[[Function], torch.Tensor]:
    def run(fill: Function) -> torch.Tensor:
        graph = make_fx(lambda t: fill(t * 1), tracing_mode=mode)(old())
        return graph(torch.zeros(SHAPE))

    return run


def functional_graph(fill: Function) -> torch.Tensor:
    return make_fx(torch.func.functionalize(lambda t: fill(t * 1)))(old())(old())


def gradient(fill: Function) -> torch.Tensor:
    """The gradient of (fill * w).sum() is the fill."""
    return torch.func.grad(lambda w: (fill(torch.empty_like(w)) * w).sum())(old())


def jacobian(fill: Function) -> torch.Tensor:
    return torch.func.jacrev(lambda w: (fill(torch.empty_like(w)) * w).sum())(old())


def tangent(fill: Function) -> torch.Tensor:
    values, tangents = torch.func.jvp(lambda w: fill(w * 1), (old(),), (old(),))
    assert not tangents.any()
    return values


def mapped(fill: Function) -> torch.Tensor:
    values = torch.func.vmap(lambda t: fill(t * 1))(old().expand(3, *SHAPE))
    assert torch.equal(values[1], values[0])
    assert torch.equal(values[2], values[0])
    return values[0]


def mapped_input(fill: Function) -> torch.Tensor:
    given = torch.full((3, *SHAPE), 7.0)
    torch.func.vmap(fill)(given)
    assert torch.equal(given[2], given[0])
    return given[1]


def script(fill: Function) -> torch.Tensor:
    made = torch.jit.trace(lambda x: fill(x * 1), old(), check_trace=False)
    return made(torch.zeros(SHAPE))


KINDS: dict[str, Callable[[Function], torch.Tensor]] = {
    "functionalize": lambda fill: torch.func.functionalize(lambda t: fill(t * 1))(old()),
    "functionalize, of the input": of_input(torch.func.functionalize),
    "make_fx": traced("real"),
    "make_fx, fake": traced("fake"),
    "make_fx, symbolic": traced("symbolic"),
    "make_fx of functionalize": functional_graph,
    "vmap": mapped,
    "vmap, of the input": mapped_input,
    "grad": gradient,
    "vmap of grad": lambda fill: torch.func.vmap(lambda t: gradient(fill))(old()[:2])[1],
    "jacrev": jacobian,
    "jvp": tangent,
    "dual": in_dual_level,
    "export": lambda fill: torch.export.export(Module(fill), (old(),)).module()(old()),
    "subclass": lambda fill: fill(old().as_subclass(Plain)).as_subclass(torch.Tensor),
    "wrapper": of_wrapper,
    "inference mode": in_inference_mode,
    "leaf": lambda fill: fill(torch.nn.Parameter(old())).detach(),
    "view of a leaf": lambda fill: fill(torch.nn.Parameter(old())[:]).detach(),
}


@pytest.mark.parametrize("kind", KINDS)
@every_fill
def test_every_kind_of_tensor_holds_numpys_values(name: str, kind: str) -> None:
    assert torch.equal(KINDS[kind](FILLS[name][1]), expected(name))


@pytest.mark.parametrize("name", [name for name in FILLS if name != "eye_"])
def test_jit_trace_records_a_fill(name: str) -> None:
    assert torch.equal(script(FILLS[name][1]), expected(name))


VIEWS: dict[str, Callable[[], torch.Tensor]] = {
    "conjugate": lambda: torch.full(SHAPE, 7 + 7j, dtype=torch.complex64).conj(),
    "negative": lambda: torch.full(SHAPE, 7 + 7j, dtype=torch.complex64).conj().imag,
    "negative complex": lambda: torch._neg_view(torch.full(SHAPE, 7 + 7j)),
    "imaginary part": lambda: torch.full(SHAPE, 7 + 7j, dtype=torch.complex64).imag,
}


@pytest.mark.parametrize("kind", VIEWS)
@every_fill
def test_views_read_numpys_values(name: str, kind: str) -> None:
    view = VIEWS[kind]()
    assert FILLS[name][1](view) is view
    dtype = "complex64" if view.is_complex() else "float32"
    assert torch.equal(view.resolve_conj().resolve_neg(), expected(name, dtype))


def test_views_write_nothing_else() -> None:
    base = torch.full((*SHAPE, 2), 7.0)
    view = torch.view_as_complex(base).conj().imag
    portinit_torch.normal_(view, key=KEY)
    assert bool((base[..., 0] == 7).all())
    assert torch.equal(base[..., 1], -view)


def test_large_tensors_take_operations_too() -> None:
    shape = 3, 1 << 17
    want = torch.from_numpy(portinit.normal()(KEY, shape, layout="torch"))
    for dtype, bits in ((torch.float32, want), (torch.bfloat16, want.bfloat16())):
        given = torch.full(shape, 7.0, dtype=dtype)
        torch.func.functionalize(lambda t: portinit_torch.normal_(t, key=KEY))(given)
        assert torch.equal(given, bits)


def test_a_dispatch_mode_sees_the_write() -> None:
    given = old()
    with Writes(given) as writes:
        portinit_torch.normal_(given, 0.5, 0.3, key=KEY)
    assert writes.count
    assert torch.equal(given, expected("normal_"))


def test_fake_tensors_are_taken_as_torch_takes_them() -> None:
    real, state = old(), torch.get_rng_state()
    with FakeTensorMode() as mode:
        made = torch.empty(SHAPE)
        assert portinit_torch.xavier_uniform_(made) is made
    assert portinit_torch.xavier_uniform_(made) is made
    assert portinit_torch.normal_(made, key=KEY) is made
    with mode, pytest.raises(AssertionError, match="FakeTensor"):
        portinit_torch.normal_(real)
    assert torch.equal(real, old())
    with pytest.raises(RuntimeError, match="std"):
        portinit_torch.normal_(made, std=-1.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_key_a_graph_draws_anew_from_torchs_generator() -> None:
    def fill(t: torch.Tensor) -> torch.Tensor:
        return portinit_torch.normal_(t * 1)

    torch.manual_seed(3)
    want = [portinit_torch.normal_(old()) for _ in range(2)]
    graphs: list[Any] = [torch.func.functionalize(fill), make_fx(fill)(old())]
    graphs.append(make_fx(fill, tracing_mode="symbolic")(old()))
    graphs.append(torch.jit.trace(fill, old(), check_trace=False))
    graphs.append(torch.export.export(Module(portinit_torch.normal_), (old(),)).module())
    for graph in graphs:
        torch.manual_seed(3)
        for values in want:
            assert torch.equal(graph(old()), values)
    assert not torch.equal(*want)


def test_without_a_key_vmap_decides_what_is_random() -> None:
    def drawn(randomness: str) -> torch.Tensor:
        mapped = torch.func.vmap(lambda t: portinit_torch.normal_(t * 1), randomness=randomness)
        return mapped(torch.zeros(2, *SHAPE))

    same, different = drawn("same"), drawn("different")
    assert torch.equal(same[0], same[1])
    assert not torch.equal(different[0], different[1])
    with pytest.raises(RuntimeError, match="randomness"):
        drawn("error")


def test_values_that_numpy_computes_need_a_known_key() -> None:
    given = portinit.assign(np.arange(24.0, dtype="f4").reshape(SHAPE))
    filled = torch.func.functionalize(lambda t: portinit_torch.fill_(t * 1, given))(old())
    assert filled.flatten().tolist() == [*range(24)]


def inference() -> torch.Tensor:
    with torch.inference_mode():
        return torch.full(SHAPE, 7.0)


REFUSED: dict[str, Callable[[], torch.Tensor]] = {
    "inference": inference,
    "expanded": lambda: torch.full((1, 6), 7.0).expand(SHAPE),
    "expanded, large": lambda: torch.full((1, 1 << 17), 7.0).expand(3, 1 << 17),
    "COO": lambda: old().to_sparse(),
    "CSR": lambda: old().to_sparse_csr(),
    "mkldnn": lambda: old().to_mkldnn(),
    "nested": lambda: torch.nested.nested_tensor([old(), old()]),
    "jagged": lambda: torch.nested.nested_tensor([old(), old()[:2]], layout=torch.jagged),
    "quantized": lambda: torch.quantize_per_tensor(old(), 0.1, 0, torch.qint8),
}


@pytest.mark.filterwarnings("ignore")  # torch warns of its prototypes
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("name", ["normal_", "uniform_", "trunc_normal_", "orthogonal_", "eye_"])
def test_what_cannot_be_filled_is_refused_before_anything_moves(name: str, kind: str) -> None:
    tensor = REFUSED[kind]()
    before, state = repr(tensor), torch.get_rng_state()
    # NotImplementedError is a RuntimeError. eye_ says first that a nested tensor has no matrix.
    with pytest.raises((RuntimeError, ValueError)):
        getattr(portinit_torch, name)(tensor)
    with pytest.raises(ValueError, match=r"clone it|dense"):
        portinit_torch.fill_(tensor, portinit.normal(), key=KEY)
    assert repr(tensor) == before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["inference", "expanded"])
def test_no_model_is_half_filled(kind: str) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(6, 4))
    model.requires_grad_(requires_grad=False)
    model[1].weight.data = REFUSED[kind]()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(portinit.RecipeError, match=r"1\.weight .*clone it"):
        portinit_torch.initialize(model, recipes.torch_defaults(), KEY)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_overlapping_elements_are_filled_alike_in_every_dtype(dtype: torch.dtype) -> None:
    """The last element that is written stays, whichever way the zeros are written."""
    tensor = torch.full((8,), 7.0, dtype=dtype).as_strided((3, 5), (1, 1))
    portinit_torch.sparse_(tensor, 0.1, key=portinit.key(3))
    assert (tensor != 0).int().tolist() == [[1, 1, 0, 0, 1], [1, 0, 0, 1, 1], [0, 0, 1, 1, 0]]


def test_zeros_fill_what_torch_zeroes() -> None:
    sparse = portinit_torch.zeros_(torch.eye(3).to_sparse())
    assert not sparse.to_dense().any()
    scale = torch.full((3,), 4.0).to(torch.float8_e8m0fnu)
    want = torch.nn.init.zeros_(scale.clone())
    assert (
        portinit_torch.zeros_(scale).view(torch.uint8).tolist() == want.view(torch.uint8).tolist()
    )


@pytest.mark.parametrize(
    "number", [np.float32(0.5), np.int64(1), np.array(0.25), torch.tensor(0.75), torch.tensor([2])]
)
def test_numbers_of_numpy_and_torch_are_numbers(number: Any) -> None:
    value = float(number)
    given = portinit_torch.uniform_(torch.empty(9), -number, number, key=KEY)
    assert torch.equal(given, portinit_torch.uniform_(torch.empty(9), -value, value, key=KEY))
    given = portinit_torch.normal_(torch.empty(9), number, number, key=KEY)
    assert torch.equal(given, portinit_torch.normal_(torch.empty(9), value, value, key=KEY))


@pytest.mark.filterwarnings("ignore:ComplexHalf support:UserWarning")
def test_half_complex_tensors_are_filled() -> None:
    half = portinit_torch.normal_(torch.zeros(SHAPE, dtype=torch.complex32), key=KEY)
    full = portinit_torch.normal_(torch.zeros(SHAPE, dtype=torch.complex64), key=KEY)
    assert torch.equal(torch.view_as_real(half), torch.view_as_real(full).half())
    with pytest.raises(NotImplementedError, match="e8m0"):
        portinit_torch.normal_(torch.zeros(3).to(torch.float8_e8m0fnu))
