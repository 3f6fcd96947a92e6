"""Tensors on a GPU hold the bytes of those on a CPU. Needs a GPU; ROCm's count as CUDA's."""

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.support.plans import values

import portinit
import portinit_torch
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit_torch import backend

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA or ROCm GPU"),
]

KEY = portinit.key(20240607)
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.complex64)
INITS = {
    "uniform": portinit.uniform(-0.3, 0.7),
    "uniform, symmetric": portinit.uniform(-0.3, 0.3),
    "uniform, from 0": portinit.uniform(),
    "normal": portinit.normal(0, 0.02),
    "normal with a mean": portinit.normal(0.5, 0.3),
    "normal, huge": portinit.normal(0, 6e4),
    "trunc_normal": portinit.trunc_normal(0, 0.02, -0.04, 0.05),
    "truncated_normal": portinit.truncated_normal(0.02),
    "kaiming_uniform": portinit.kaiming_uniform(5**0.5),
    "kaiming_normal": portinit.kaiming_normal(nonlinearity="relu"),
    "xavier_uniform": portinit.xavier_uniform(),
    "he_normal": portinit.he_normal(),
    "constant": portinit.constant(0.3),
    "eye": portinit.eye(),
}
REAL_ONLY = {"trunc_normal", "truncated_normal", "he_normal"}
VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.T,
    "sliced": lambda x: x[3:, 1::3],
    "transposed and sliced": lambda x: x.T[1::2, :-1],
    "a row": lambda x: x[1],
    "one element": lambda x: x[0, 0],
}


def raw(tensor: torch.Tensor) -> bytes:
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return values.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def on_both(make: Callable[[str], torch.Tensor]) -> tuple[bytes, bytes]:
    return raw(make("cuda")), raw(make("cpu"))


@pytest.fixture(params=["kernel", "arrays"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through Triton's kernel, and as where Triton is not installed."""
    if request.param == "arrays":
        monkeypatch.setattr(backend, "_triton_fill", lambda: None)
    elif importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")


def test_the_kernel_compiles_where_triton_is_installed() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    module = importlib.import_module("portinit_torch.triton_fill")
    assert module.works(torch.device("cuda"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", INITS)
def test_a_fill(name: str, dtype: torch.dtype) -> None:
    if dtype.is_complex and name in REAL_ONLY:
        pytest.skip("not for complex numbers")

    def make(device: str) -> torch.Tensor:
        out = torch.empty(301, 203, dtype=dtype, device=device)
        return portinit_torch.fill_(out, INITS[name], key=KEY)

    ours, expected = on_both(make)
    assert ours == expected


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_strides(view: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype) -> None:
    def make(device: str) -> torch.Tensor:
        base = torch.full((301, 203), 7.0, dtype=dtype, device=device)
        portinit_torch.normal_(view(base), 0.5, 0.3, key=KEY)
        return base

    ours, expected = on_both(make)
    assert ours == expected


@pytest.mark.usefixtures("way")
def test_channels_last() -> None:
    def make(device: str) -> torch.Tensor:
        out = torch.empty(33, 17, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
        return portinit_torch.kaiming_uniform_(out, key=KEY)

    ours, expected = on_both(make)
    assert ours == expected


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_new_tensor(dtype: torch.dtype) -> None:
    for init in (portinit.normal(), portinit.uniform(), portinit.constant(0.3)):

        def make(device: str, init: Any = init) -> torch.Tensor:
            return init(KEY, (300, 500), dtype, xp=torch, device=device, layout="torch")

        ours, expected = on_both(make)
        assert ours == expected


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
def test_a_module(dtype: torch.dtype) -> None:
    parts = (torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(50, 60), torch.nn.LSTM(3, 4))
    module = torch.nn.ModuleList((*parts, torch.nn.BatchNorm2d(8), torch.nn.Embedding(90, 8, 0)))
    filled = []
    for device in ("cuda", "cpu"):
        module.to(device, dtype)
        portinit_torch.initialize(module, portinit.recipes.torch_defaults(), KEY)
        filled.append([raw(p) for p in module.parameters()])
    assert filled[0] == filled[1]


@pytest.mark.usefixtures("way")
def test_a_million_values_of_each_law() -> None:
    for init in (INITS["uniform"], INITS["normal"], INITS["normal with a mean"]):
        for dtype in DTYPES[:3]:

            def make(device: str, init: Any = init, dtype: torch.dtype = dtype) -> torch.Tensor:
                return portinit_torch.fill_(
                    torch.empty(1 << 20, dtype=dtype, device=device), init, key=KEY
                )

            ours, expected = on_both(make)
            assert ours == expected


def test_elements_past_32_bits() -> None:
    """The last elements of a tensor of 2**32 + 1000, in several launches."""
    size, last = (1 << 32) + 1000, 5000
    if torch.cuda.mem_get_info()[0] < 4 * size:
        pytest.skip("needs 8 GiB of the GPU's memory")
    out = torch.empty(size, dtype=torch.float16, device="cuda")
    portinit_torch.normal_(out, key=KEY)
    grid = Grid.whole((size,), Layout()).part(0, slice(-last, None))
    expected = values(portinit.normal(), KEY.words, grid, "float16")
    assert raw(out[-last:]) == expected.tobytes()


def test_autograd_sees_that_the_values_changed() -> None:
    parameter = torch.nn.Parameter(torch.ones(5, 5, device="cuda"))
    loss = (parameter * parameter).sum()
    portinit_torch.normal_(parameter, key=KEY)
    assert parameter.is_leaf
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_the_current_stream_is_used() -> None:
    stream = torch.cuda.Stream()
    portinit_torch.normal_(torch.empty(9, device="cuda"), key=KEY)  # compiled before
    out = torch.zeros(1 << 24, device="cuda")
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # what follows on this stream waits
        portinit_torch.normal_(out, key=KEY)
        done = torch.cuda.Event()
        done.record()
    assert not done.query()
    assert not out.any(), "another stream was used"
    stream.synchronize()
    assert raw(out) == raw(portinit_torch.normal_(torch.empty(1 << 24), key=KEY))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_device_that_is_not_current() -> None:
    out = portinit_torch.normal_(torch.empty(999, device="cuda:1"), key=KEY)
    assert raw(out) == raw(portinit_torch.normal_(torch.empty(999), key=KEY))
