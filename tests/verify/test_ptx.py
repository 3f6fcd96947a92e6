"""The code of NVIDIA's GPUs, executed: what JAX and Triton compile draws to gives NumPy's bytes.

The PTX is recorded in ``tests/golden/ptx.json.xz`` by ``tools/record_ptx.py``. Where JAX's compiler
for CUDA, or Triton, is installed, it is compiled anew as well.
"""

import importlib.util
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks import chips
from numpy.typing import NDArray
from tests.support.ptx import UnknownInstructionError, Value, kernels, launch
from tools import record_ptx

import portinit as pi
from portinit.backends.numpy import NUMPY
from portinit.random.words import random_words
from portinit.sampling.quantile32 import pairs

KEY = pi.key(20240607)
CASES = [(name, dtype) for name in record_ptx.draws() for dtype in record_ptx.DTYPES]
every_draw = pytest.mark.parametrize(("name", "dtype"), CASES)


@cache
def recorded(compiler: str = "jax") -> Any:
    return record_ptx.read()[compiler]["programs"]


def executed(program: Any, argument: NDArray[np.uint32]) -> NDArray[Any]:
    """The bytes that a program's last launch writes."""
    buffers: dict[str, NDArray[Any]] = {}
    found = kernels(program["ptx"])
    for step in program["launches"]:
        result = np.zeros(step["bytes"], np.uint8)
        # What no launch makes is the program's argument.
        operands = [buffers.get(name, argument) for name in step["operands"]]
        launch(found[step["kernel"]], step["grid"], step["block"], [*operands, result])
        buffers[step["result"]] = result
    return result


def given_words() -> NDArray[np.uint32]:
    """Words whose normals lie in every octave of both tails, with both ends of each."""
    rng = np.random.default_rng(20240229)
    per_octave = record_ptx.COUNT // 64
    magnitudes = [
        np.concatenate(
            [[1 << octave, (2 << octave) - 1], rng.integers(1 << octave, 2 << octave, per_octave)]
        )
        for octave in range(31)
    ]
    m = np.concatenate(magnitudes).astype(np.uint32)
    # A rank c has the tail probability m = c ^ 2**31 below the median, and ~c has it above.
    words = np.concatenate([m ^ np.uint32(1 << 31), ~(m ^ np.uint32(1 << 31))])
    rest = rng.integers(0, 1 << 32, record_ptx.COUNT - len(words), np.uint32)
    return np.concatenate([words, rest])


def in_numpy(name: str, dtype: str, words: NDArray[np.uint32]) -> Any:
    """The values of given words, by NumPy's array operations."""
    return record_ptx.values_of(NUMPY, record_ptx.draws()[name], dtype, words.view(np.int32))


def assert_numpys_bytes(programs: Any, name: str, dtype: str) -> None:
    whole = programs[f"{name}, {dtype}, from_key"]
    wanted = record_ptx.draws()[name](KEY, record_ptx.SHAPE, dtype)
    found = executed(whole, np.array(KEY.words, np.uint32))
    assert wanted.size == 1 << 16
    assert found.tobytes() == wanted.tobytes()
    words = given_words()
    wanted = in_numpy(name, dtype, words)
    found = executed(programs[f"{name}, {dtype}, from_words"], words)
    assert found.tobytes() == wanted.tobytes()
    if name == "normal":
        assert_tails_are_reached(wanted)


def assert_tails_are_reached(normals: NDArray[Any]) -> None:
    z = (normals.astype(np.float64) - 0.5) / 0.3
    assert z.max() > 6.2
    assert z.min() < -6.2


@every_draw
def test_the_recorded_code_of_a_gpu_gives_numpys_bytes(name: str, dtype: str) -> None:
    assert_numpys_bytes(recorded(), name, dtype)


@pytest.mark.skipif(
    not chips.has_compiler("h100"),
    reason="needs jax-cuda12-plugin, jax-cuda12-pjrt and nvidia-cuda-nvcc-cu12",
)
def test_the_code_of_a_gpu_that_is_compiled_now_gives_numpys_bytes() -> None:
    programs = compiled_now("jax")
    for name, dtype in CASES:
        assert_numpys_bytes(programs, name, dtype)


def compiled_now(compiler: str) -> Any:
    """By a process of its own: the compiler is not to be loaded into this one."""
    code = (
        f"import json; from tools import record_ptx; print(json.dumps(record_ptx.by_{compiler}()))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(record_ptx.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


# Triton's

CAPABILITIES = (90, 80)
TRITONS_KEY = pi.key(0x0123456789ABCDEF)


def launched(launches: Any, **numbers: Any) -> NDArray[np.uint8]:
    """The bytes that Triton's only launch writes, with some of its numbers replaced.

    A number can be an array with one for each thread.
    """
    [one] = launches
    [kernel] = kernels(one["assembly"]).values()
    words = dict(zip(("k0", "k1"), TRITONS_KEY.words, strict=True))
    given = {name: number for name, _, number in one["arguments"]} | words | numbers
    of_element = {"*fp32": 4, "*i16": 2}
    arguments: list[Any] = []
    for name, kind, _ in one["arguments"]:
        if name == "out":
            arguments.append(np.zeros(given["size"] * of_element[kind], np.uint8))
        elif name == "table":
            arguments.append(pairs().view(np.uint8).copy())
        else:
            arguments.append(Value(np.asarray(given[name], {"fp32": "f4"}.get(kind))))
    nowhere = [Value(0), Value(0)]  # the places of scratch memory, of which there is none
    grid = -(-given["size"] // (PER_THREAD * one["block"]))
    launch(kernel, grid, one["block"], [*arguments, *nowhere])
    out: NDArray[np.uint8] = arguments[0]
    return out


PER_THREAD = 8


def counters_of(words: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Counters at which a key's words are the given ones: the cipher, undone.

    The word at a counter is the exclusive or of the cipher's two, of which one can be chosen.
    """
    rng = np.random.default_rng(20250308)
    x = rng.integers(0, 1 << 32, len(words), np.uint32)
    y = x ^ words
    k0, k1 = (np.uint32(word) for word in TRITONS_KEY.words)
    schedule = k0, k1, k0 ^ k1 ^ np.uint32(0x1BD11BDA)
    rotations = (13, 15, 26, 6), (17, 29, 16, 24)
    with np.errstate(over="ignore"):
        for group in reversed(range(5)):
            x -= schedule[(group + 1) % 3]
            y -= schedule[(group + 2) % 3] + np.uint32(group + 1)
            for left in reversed(rotations[group % 2]):
                y ^= x
                y = (y >> np.uint32(left)) | (y << np.uint32(32 - left))
                x -= y
        high, low = x - k0, y - k1
    return (high.astype(np.uint64) << np.uint64(32)) | low


def test_the_counters_of_words() -> None:
    words = given_words()
    counters = counters_of(words)
    halves = (counters >> np.uint64(32), counters & np.uint64(0xFFFFFFFF))
    high, low = (half.astype(np.uint32).view(np.int32) for half in halves)
    key = tuple(np.full(1, word, np.uint32).view(np.int32) for word in TRITONS_KEY.words)
    assert np.array_equal(random_words(np, key, (high, low)).view(np.uint32), words)


def assert_numpys_bytes_of_triton(launches: Any, name: str, dtype: str) -> None:
    wanted = record_ptx.draws()[name](TRITONS_KEY, record_ptx.SHAPE, dtype, layout="torch")
    assert wanted.size == 1 << 16
    assert launched(launches).tobytes() == wanted.tobytes()
    # Each thread with a counter of its own, which all of its elements have.
    words = given_words()
    found = launched(
        launches, first=counters_of(words).view(np.int64), step=0, size=PER_THREAD * len(words)
    )
    wanted = in_numpy(name, dtype, words)
    lines = found.view(wanted.dtype).reshape(-1, PER_THREAD, launches[0]["block"])
    for element in range(PER_THREAD):
        assert lines[:, element].tobytes() == wanted.tobytes()
    if name == "normal":
        assert_tails_are_reached(wanted)


@pytest.mark.parametrize("capability", CAPABILITIES)
@every_draw
def test_tritons_recorded_code_gives_numpys_bytes(name: str, dtype: str, capability: int) -> None:
    launches = recorded("triton")[f"{name}, {dtype}, sm_{capability}"]
    assert_numpys_bytes_of_triton(launches, name, dtype)


@pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs torch and pip install triton"
)
def test_tritons_code_that_is_compiled_now_gives_numpys_bytes() -> None:
    programs = compiled_now("triton")
    for name, dtype in CASES:
        for capability in CAPABILITIES:
            launches = programs[f"{name}, {dtype}, sm_{capability}"]
            assert_numpys_bytes_of_triton(launches, name, dtype)


def test_all_that_is_recorded_is_tested() -> None:
    wanted = {f"{name}, {dtype}, from_{of}" for name, dtype in CASES for of in ("key", "words")}
    assert recorded().keys() == wanted
    for program in recorded().values():
        assert not chips.MULTIPLY_ADD.search(program["ptx"])
    wanted = {f"{name}, {dtype}, sm_{of}" for name, dtype in CASES for of in CAPABILITIES}
    assert recorded("triton").keys() == wanted
    for launches in recorded("triton").values():
        [one] = launches  # a single pass
        assert ".visible .entry" in one["assembly"]
        assert not chips.MULTIPLY_ADD.search(one["assembly"])


# The execution can fail

BODY = """
.visible .entry f(
	.param .u64 .ptr .align 16 f_param_0,
	.param .u64 .ptr .align 16 f_param_1
)
.reqntid 4, 1, 1
{{
	ld.param.b64 	%rd1, [f_param_0];
	ld.param.b64 	%rd2, [f_param_1];
	mov.u32 	%r1, %tid.x;
	mul.wide.u32 	%rd3, %r1, 4;
	add.s64 	%rd4, %rd1, %rd3;
	add.s64 	%rd5, %rd2, %rd3;
	ld.global.nc.b32 	%r2, [%rd4];
	{statement};
	st.global.b32 	[%rd5], %r3;
	ret;

}}
"""


def run(statement: str, words: Any) -> Any:
    given, out = np.array(words, np.uint32), np.zeros(4, np.uint32)
    launch(kernels(BODY.format(statement=statement))["f"], 1, 4, [given, out])
    return out


FLOATS = np.array([1.5, -0.0, 3e38, -2.75], np.float32)
ZEROS = np.array([0.0, -0.0, 1.0, np.nan], np.float32).view(np.uint32)
"""Both zeros, which are told apart, and NaN, which a number is preferred to."""


@pytest.mark.parametrize(
    ("statement", "words", "wanted"),
    [
        ("add.s32 %r3, %r2, -1", [0, 1, 2**31, 7], [2**32 - 1, 0, 2**31 - 1, 6]),
        ("shr.s32 %r3, %r2, 31", [0, 1, 2**31, 2**32 - 1], [0, 0, 2**32 - 1, 2**32 - 1]),
        ("shr.u32 %r3, %r2, 31", [0, 1, 2**31, 2**32 - 1], [0, 0, 1, 1]),
        ("shf.l.wrap.b32 %r3, %r2, %r2, 1", [0, 1, 2**31, 2**31 + 1], [0, 2, 1, 3]),
        ("mad.lo.s32 %r3, %r2, 3, %r2", [0, 1, 2**31, 2**30], [0, 4, 0, 0]),
        ("cvt.rn.f32.s32 %r3, %r2", [1, 2**24 + 1, 2**24 + 3, 2**32 - 1], None),
        ("cvt.rzi.s32.f32 %r3, %r2", FLOATS.view(np.uint32), [1, 0, 2**31 - 1, 2**32 - 2]),
        ("mul.rn.f32 %r3, %r2, 0f3F000000", FLOATS.view(np.uint32), None),
        ("bfe.u32 %r3, %r2, 2, 14", [0, 7, 2**32 - 1, 2**16], [0, 1, 2**14 - 1, 0]),
        ("mul.hi.u32 %r3, %r2, -1", [0, 1, 2**31, 2**32 - 1], [0, 0, 2**31 - 1, 2**32 - 2]),
        ("mul.hi.s32 %r3, %r2, 3", [0, 2**30, 2**31, 2**32 - 1], [0, 0, 2**32 - 2, 2**32 - 1]),
        ("min.s32 %r3, %r2, 5", [0, 7, 2**31, 2**32 - 1], [0, 5, 2**31, 2**32 - 1]),
        ("abs.f32 %r3, %r2", FLOATS.view(np.uint32), np.abs(FLOATS).view(np.uint32)),
        ("max.f32 %r3, %r2, 0f00000000", ZEROS, [0, 0, 0x3F800000, 0]),
        ("min.f32 %r3, %r2, 0f00000000", ZEROS, [0, 1 << 31, 0, 0]),
    ],
)
def test_an_instruction_does_what_nvidia_says(statement: str, words: Any, wanted: Any) -> None:
    if statement.startswith("cvt.rn.f32"):
        wanted = np.array([1, 2**24, 2**24 + 4, -1], np.float32).view(np.uint32)
    if statement.startswith("mul.rn"):
        wanted = np.array([0.75, -0.0, 1.5e38, -1.375], np.float32).view(np.uint32)
    assert run(statement, words).tolist() == np.asarray(wanted).tolist()


@pytest.mark.parametrize(
    "statement",
    [
        "fma.rn.f32 %r3, %r2, %r2, %r2",
        "mul.f32 %r3, %r2, %r2",
        "add.rn.ftz.f32 %r3, %r2, %r2",
        "lg2.approx.f32 %r3, %r2",
        "div.rn.f32 %r3, %r2, %r2",
        "@%p1 bra $L__BB0_2",
        "shl.b32 %r3, %r2, 32",
        "bfe.u32 %r3, %r2, 24, 9",
        "mad.rn.f32 %r3, %r2, %r2, %r2",
    ],
)
def test_an_instruction_that_is_not_known_is_refused(statement: str) -> None:
    with pytest.raises((UnknownInstructionError, KeyError)):
        run(statement, [1, 2, 3, 4])


def test_another_rotation_in_tritons_code_is_seen() -> None:
    [launch] = recorded("triton")["normal, float32, sm_90"]
    assert launch["assembly"].count(", 29;") == 16
    turned = launch | {"assembly": launch["assembly"].replace(", 29;", ", 28;", 1)}
    wanted = record_ptx.draws()["normal"](TRITONS_KEY, record_ptx.SHAPE, layout="torch")
    found = launched([turned]).view(np.float32)
    assert np.mean(found == wanted.reshape(-1)) == 7 / 8  # one of a thread's eight elements


def test_a_rounding_that_is_left_out_is_seen() -> None:
    """With one product's last bit kept, in the recorded code, bytes differ."""
    program = recorded()["normal, float32, from_words"]
    assert ", -2;" in program["ptx"]
    kept = program | {"ptx": program["ptx"].replace(", -2;", ", -1;", 9)}
    words = given_words()
    assert executed(kept, words).tobytes() != in_numpy("normal", "float32", words).tobytes()
