"""The fused fill of GPU tensors, without a GPU: run by Triton's interpreter, and compiled.

The interpreter takes the kernel's operations one by one on CPU tensors. The compiler makes the code
of an NVIDIA and of an AMD GPU, in which the floating-point instructions are counted.
"""

import importlib
import importlib.util
import multiprocessing
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tools import triton_code

import portinit
import portinit_torch
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends.base import TILE, Request
from portinit.backends.numpy import NUMPY
from portinit.random.words import SECOND_STREAM, random_words
from portinit.sampling.transform import Transform
from portinit_torch import backend

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="Triton is not installed; it comes with torch's builds for GPUs: pip install triton",
    ),
]

KEY = portinit.key(20240607)
INITS = {
    "uniform, symmetric": portinit.uniform(-0.3, 0.3),
    "uniform, from 0": portinit.uniform(0, 0.7),
    "uniform, asymmetric": portinit.uniform(-0.3, 0.7),
    "uniform, wide": portinit.uniform(-1, 6e4),
    "normal": portinit.normal(0, 0.02),
    "normal with a mean": portinit.normal(0.5, 0.3),
    "normal, huge": portinit.normal(0, 6e4),
    "truncated": portinit.truncated_normal(0.02),
    "truncated, one-sided": portinit.trunc_normal(1.0, 0.7, 0.5, float("inf")),
    "truncated, far off": portinit.trunc_normal(0, 1, 3.5, 4.0),
}
every_init = pytest.mark.parametrize("init", INITS.values(), ids=INITS)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


@pytest.fixture(scope="module")
def interpreted() -> Iterator[ModuleType]:
    """triton_fill, whose kernel the interpreter runs: Triton looks where a kernel is decorated."""

    def forget() -> None:
        for name in ("triton_kernel", "triton_fill"):
            sys.modules.pop(f"portinit_torch.{name}", None)
            vars(portinit_torch).pop(name, None)

    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        yield importlib.import_module("portinit_torch.triton_fill")
    forget()


@pytest.fixture
def as_on_a_gpu(interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """CPU tensors are taken for a GPU's."""
    monkeypatch.setattr(backend, "_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(backend, "_triton_fill", lambda: interpreted)
    monkeypatch.setattr(interpreted, "works", lambda _: True)


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def whole(tensor: torch.Tensor) -> Grid:
    return Grid.whole(tuple(tensor.shape), Layout())


def expected(init: Any, grid: Grid, dtype: torch.dtype) -> bytes:
    """NumPy's values, in array operations."""
    name = dtype_name(dtype)
    out = np.empty(grid.array_shape, NUMPY.native_dtype(name))
    NUMPY._fill_by_tiles(init.plan(grid, name), Request(NUMPY, KEY.words, grid, name), out, TILE)
    return out.tobytes()


def filled(module: ModuleType, init: Any, out: torch.Tensor, grid: Grid | None = None) -> bytes:
    grid = grid or whole(out)
    steps = init.plan(grid, dtype_name(out.dtype)).transform
    assert isinstance(steps, Transform)
    assert module.fill(out, KEY.words, grid, steps)
    return raw(out)


# Values


@every_dtype
@every_init
def test_the_kernels_bytes_are_numpys(
    interpreted: ModuleType, init: Any, dtype: torch.dtype
) -> None:
    out = torch.empty(61, 67, dtype=dtype)
    assert filled(interpreted, init, out) == expected(init, whole(out), dtype)


@pytest.mark.parametrize("scale", [1e-4, 2.0**-126, 1e-44], ids=str)
@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_small_values_are_rounded_as_on_a_cpu(
    interpreted: ModuleType, dtype: torch.dtype, scale: float
) -> None:
    """Among float16's denormal numbers, and where all is zero."""
    init, out = portinit.normal(0, scale), torch.empty(4096, dtype=dtype)
    assert filled(interpreted, init, out) == expected(init, whole(out), dtype)


@pytest.mark.parametrize("size", [0, 1, 2, 127, 128, 1023, 1024, 1025, 3000])
def test_nothing_is_written_past_the_end(interpreted: ModuleType, size: int) -> None:
    base = torch.full((size + 1025,), 7.0)
    init, out = portinit.normal(), base[:size]
    grid = whole(out)
    steps = init.plan(grid, "float32").transform
    assert interpreted.fill(out, KEY.words, grid, steps)
    assert raw(out) == expected(init, grid, torch.float32)
    assert bool((base[size:] == 7).all())


@pytest.mark.parametrize("stream", [0, SECOND_STREAM])
def test_words(interpreted: ModuleType, stream: int) -> None:
    out = torch.empty(37, 41, dtype=torch.int32)
    assert interpreted.fill(out, KEY.words, whole(out), None, stream)
    counters = whole(out).counters(np, None)
    assert raw(out) == random_words(np, KEY.words, counters, stream=stream).tobytes()


@pytest.mark.parametrize("word", [0, 1, 1 << 31, (1 << 32) - 1])
def test_words_of_extreme_keys(interpreted: ModuleType, word: int) -> None:
    out, key = torch.empty(9, dtype=torch.int32), (word, word)
    assert interpreted.fill(out, key, whole(out), None)
    assert raw(out) == random_words(np, key, whole(out).counters(np, None)).tobytes()


# Elements

VIEWS: dict[str, Callable[[torch.dtype], torch.Tensor]] = {
    "a number": lambda dtype: torch.empty((), dtype=dtype),
    "transposed": lambda dtype: torch.empty(40, 30, dtype=dtype).T,
    "permuted": lambda dtype: torch.empty(5, 6, 7, 8, dtype=dtype).permute(2, 0, 3, 1),
    "channels_last": lambda dtype: torch.empty(6, 5, 3, 4, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    ),
    "every other": lambda dtype: torch.empty(2000, dtype=dtype)[1::2],
    "sliced": lambda dtype: torch.empty(40, 50, dtype=dtype)[3:30, 1:48:3],
    "permuted and sliced": lambda dtype: torch.empty(9, 8, 7, 6, dtype=dtype).permute(3, 0, 2, 1)[
        1:, ::2, 1:-1, 2:
    ],
    "six axes": lambda dtype: torch.empty(3, 4, 2, 5, 3, 6, dtype=dtype).permute(5, 1, 3, 0, 2, 4)[
        1:, :3, :4, :, :, :2
    ],
    "unaligned": lambda dtype: torch.empty(1025, dtype=dtype)[1:],
}
every_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)


@every_dtype
@every_view
def test_strides_do_not_change_the_values(
    interpreted: ModuleType, view: Callable[[torch.dtype], torch.Tensor], dtype: torch.dtype
) -> None:
    out, init = view(dtype), portinit.normal(0.1, 0.02)
    assert filled(interpreted, init, out) == expected(init, whole(out), dtype)


@pytest.mark.parametrize("name", ["sliced", "permuted and sliced"])
def test_nothing_is_written_beside_a_slice(interpreted: ModuleType, name: str) -> None:
    out = VIEWS[name](torch.float32)
    base = torch.as_strided(out, (out.untyped_storage().nbytes() // 4,), (1,), 0)
    base.fill_(7)
    filled(interpreted, portinit.uniform(-1, 1), out)
    assert int((base != 7).sum()) == out.numel()


def test_tensors_that_share_memory_are_left_alone(interpreted: ModuleType) -> None:
    out = torch.zeros(3, 1).expand(3, 4)
    assert not interpreted.fill(out, KEY.words, whole(out), None)
    assert not out.any()


HUGE = Grid.whole((1 << 20, 1 << 20), Layout())
GRIDS = {
    "across 2**32": replace(Grid.whole((3000,), Layout()), offset=(1 << 32) - 1500),
    "backwards across 2**32": replace(Grid.whole((3000,), Layout()), offset=(1 << 32) - 1500).part(
        0, slice(None, None, -1)
    ),
    "far out": HUGE.part(0, slice(4090, 4105)).part(1, slice(77, 1 << 20, 1 << 14)),
    "flipped": HUGE.part(0, slice(4105, 4090, -1)).part(1, slice(5000, 77, -99)),
    "the end": HUGE.part(0, slice(-3, None)).part(1, slice(-400, None)),
    "a flipped layout": Grid.whole((4, 3, 5, 6), Layout((3,), (2,), flip=True)),
}


@every_dtype
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_counters_of_64_bits(interpreted: ModuleType, grid: Grid, dtype: torch.dtype) -> None:
    out, init = torch.empty(grid.array_shape, dtype=dtype), portinit.uniform(-0.3, 0.7)
    assert filled(interpreted, init, out, grid) == expected(init, grid, dtype)


@pytest.mark.parametrize("pieces", [2, 9, 50])
@every_view
def test_large_tensors_are_filled_in_pieces(
    interpreted: ModuleType,
    view: Callable[[torch.dtype], torch.Tensor],
    pieces: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, init = view(torch.float32), portinit.uniform(-0.3, 0.7)
    monkeypatch.setattr(interpreted, "_MOST", max(1, out.numel() // pieces))
    assert filled(interpreted, init, out) == expected(init, whole(out), torch.float32)


def test_division_by_a_reciprocal_is_exact(interpreted: ModuleType) -> None:
    rng = np.random.default_rng(0)
    lengths = np.r_[1:300, rng.integers(1, 1 << 30, 3000), 1 << 30, (1 << 31) - 1]
    for length in lengths.tolist():
        factor, shift = interpreted._reciprocal(length)
        most = ((1 << 31) - 1) // length
        multiples = np.r_[1 : min(most, 9) + 1, rng.integers(1, most + 1, 9), most] * length
        n = np.r_[0, multiples - 1, multiples, (1 << 31) - 1].astype(np.uint64)
        quotient = ((n * np.uint64(factor) >> np.uint64(32)) + n) >> np.uint64(shift)
        assert (quotient == n // np.uint64(length)).all()
        assert factor < 1 << 32


# The way there


@pytest.mark.usefixtures("as_on_a_gpu")
@every_dtype
@every_init
def test_fill_leads_to_the_kernel(init: Any, dtype: torch.dtype) -> None:
    parameter = torch.nn.Parameter(torch.full((13, 10), 7.0, dtype=dtype).T)
    version, storage = parameter._version, parameter.data_ptr()
    assert portinit_torch.fill_(parameter, init, key=KEY) is parameter
    assert raw(parameter) == expected(init, whole(parameter), dtype)
    assert parameter._version == version + 1
    assert parameter.data_ptr() == storage
    assert parameter.is_leaf
    assert parameter.grad_fn is None


@pytest.mark.usefixtures("as_on_a_gpu")
def test_a_half_needs_no_float32_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend.BACKEND, "draw_by_arrays", None)
    portinit_torch.normal_(torch.empty(9, dtype=torch.bfloat16), key=KEY)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("dtype", [*DTYPES, torch.complex64, torch.float64], ids=str)
def test_new_tensors(dtype: torch.dtype) -> None:
    for init in (portinit.kaiming_normal(), portinit.sparse(0.5)):
        if dtype.is_complex and isinstance(init, portinit.sparse):
            continue
        ours = init(KEY, (20, 30), dtype, xp=torch, layout="torch")
        assert raw(ours) == init(KEY, (20, 30), dtype_name(dtype), layout="torch").tobytes()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_modules() -> None:
    make = (torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(5, 6), torch.nn.LSTM(3, 4))
    module = torch.nn.ModuleList(make).to(torch.bfloat16)
    recipe = portinit.recipes.torch_defaults()
    portinit_torch.initialize(module, recipe, KEY)
    first = [raw(p) for p in module.parameters()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "_triton_fill", lambda: None)
        portinit_torch.initialize(module, recipe, KEY)
    assert [raw(p) for p in module.parameters()] == first


def test_a_gpu_that_triton_cannot_serve_is_left_to_array_operations(
    interpreted: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreted.works.cache_clear()
    assert interpreted.works(torch.device("cpu"))
    interpreted.works.cache_clear()
    monkeypatch.setattr(interpreted, "triton_kernel", None)
    assert not interpreted.works(torch.device("cpu"))
    interpreted.works.cache_clear()


# Machine code


GPUS = {"cuda": triton_code.HOPPER, "hip": triton_code.CDNA3}
PER_THREAD = 8


def assembly(init: Any, out: torch.Tensor, gpu: str) -> str:
    """The kernel that a fill launches, in PTX or AMD's code."""
    [launch] = triton_code.compiled_launches(lambda module: filled(module, init, out), GPUS[gpu])
    return launch.assembly


def compile_afresh(directory: str) -> None:
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ["TRITON_CACHE_DIR"] = directory


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """:func:`assembly` in another process: where the interpreter ran nothing is compiled."""
    directory = str(tmp_path_factory.mktemp("triton"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, compile_afresh, (directory,)) as pool:

        def text(init: Any, out: torch.Tensor, gpu: str) -> str:
            try:
                return pool.submit(assembly, init, out, gpu).result()
            except Exception as error:
                if "lld not found" in str(error):
                    pytest.skip("this Triton has no linker for AMD's code")
                raise

        yield text


def instructions(text: str) -> Counter[str]:
    """How often each instruction occurs for a value."""
    found = Counter(re.findall(r"^\s+(?:@!?%p\d+ )?([a-z]\w+(?:\.\w+)*)\s", text, re.M))
    return Counter({name: -(-count // PER_THREAD) for name, count in found.items()})


def floats(text: str) -> dict[str, int]:
    """The instructions with a floating-point operand or result, but loads."""
    marked = re.compile(r"[._](f16|f32|f64|bf16|f16x2|bf16x2)\b|[._]f(16|32)_|fma|mad_mix")
    found = {name: n for name, n in instructions(text).items() if marked.search(name)}
    return {name: n for name, n in found.items() if not name.startswith("ld.")}


@every_dtype
@every_init
def test_ptx_converts_and_multiplies_once(
    compiled: Callable[..., str], init: Any, dtype: torch.dtype
) -> None:
    """To nearest, with no neighbour to be contracted with, and with no denormal flushed."""
    out = torch.empty(2048, dtype=dtype)
    steps = init.plan(whole(out), dtype_name(dtype)).transform
    text = compiled(init, out, "cuda")
    wanted = {"cvt.rn.f32.s32": 1 + steps.quantile, "mul.rn.f32": 1}
    if np.isfinite(steps.low) or dtype == torch.float16:
        wanted |= {"max.f32": 1, "min.f32": 1}
    if dtype == torch.float16:
        wanted |= {"cvt.rn.f16.f32": 1}
    assert floats(text) == wanted
    assert "ftz" not in text
    assert ".shared" not in text, "values went from thread to thread"


@every_dtype
@pytest.mark.parametrize("name", ["uniform, asymmetric", "normal with a mean", "truncated"])
def test_amds_code_multiplies_once(
    compiled: Callable[..., str], name: str, dtype: torch.dtype
) -> None:
    found = floats(compiled(INITS[name], torch.empty(2048, dtype=dtype), "hip"))
    assert found["v_mul_f32_e32"] == 1
    allowed = r"v_(mul_f32_e32|cvt_f32_i32_e32|(max|min)_f32_e(32|64)|cvt_f16_f32_e32)"
    assert [name for name in found if not re.fullmatch(allowed, name)] == []


MOST_INSTRUCTIONS = {"uniform, symmetric": 100, "uniform, asymmetric": 101, "normal": 120}


@pytest.mark.parametrize("name", MOST_INSTRUCTIONS)
def test_instructions_a_value(
    compiled: Callable[..., str], name: str, record_property: Any
) -> None:
    text = compiled(INITS[name], torch.empty(1 << 20), "cuda")
    count = sum(re.match(r"\s+(@!?%p\d+ )?[a-z]", line) is not None for line in text.splitlines())
    record_property("instructions a value", count / PER_THREAD)
    assert count / PER_THREAD <= MOST_INSTRUCTIONS[name]


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("view", ["transposed", "permuted and sliced"])
def test_every_geometry_compiles(compiled: Callable[..., str], view: str, gpu: str) -> None:
    assert compiled(INITS["normal"], VIEWS[view](torch.float32), gpu)
