"""The code of an NVIDIA GPU, executed: the PTX that JAX compiles draws to gives NumPy's bytes.

The PTX is recorded in ``tests/golden/ptx.json.xz`` by ``tools/record_ptx.py``. Where JAX's compiler
for CUDA is installed, it is compiled anew as well.
"""

import json
import lzma
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
from tests.support.ptx import UnknownInstructionError, kernels, launch
from tools import record_ptx

import portinit as pi
from portinit.backends.numpy import NUMPY

KEY = pi.key(20240607)
CASES = [(name, dtype) for name in record_ptx.draws() for dtype in record_ptx.DTYPES]
every_draw = pytest.mark.parametrize(("name", "dtype"), CASES)


@cache
def recorded() -> Any:
    return json.loads(lzma.decompress(record_ptx.FILE.read_bytes()))["programs"]


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
    if name == "normal":  # the tails are reached
        z = (wanted.astype(np.float64) - 0.5) / 0.3
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
    """By a process of its own: the compiler is not to be loaded into this one."""
    code = "import json; from tools import record_ptx; print(json.dumps(record_ptx.programs()))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(record_ptx.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    programs = json.loads(result.stdout.splitlines()[-1])
    for name, dtype in CASES:
        assert_numpys_bytes(programs, name, dtype)


def test_all_that_is_recorded_is_tested() -> None:
    wanted = {f"{name}, {dtype}, from_{of}" for name, dtype in CASES for of in ("key", "words")}
    assert recorded().keys() == wanted
    for program in recorded().values():
        assert not chips.MULTIPLY_ADD.search(program["ptx"])


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
    ],
)
def test_an_instruction_that_is_not_known_is_refused(statement: str) -> None:
    with pytest.raises((UnknownInstructionError, KeyError)):
        run(statement, [1, 2, 3, 4])


def test_a_rounding_that_is_left_out_is_seen() -> None:
    """With one product's last bit kept, in the recorded code, bytes differ."""
    program = recorded()["normal, float32, from_words"]
    assert ", -2;" in program["ptx"]
    kept = program | {"ptx": program["ptx"].replace(", -2;", ", -1;", 9)}
    words = given_words()
    assert executed(kept, words).tobytes() != in_numpy("normal", "float32", words).tobytes()
