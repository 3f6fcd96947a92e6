"""PTX, the code of NVIDIA's GPUs, executed on NumPy arrays: one instruction after the other.

All threads of a launch take an instruction at once; a register is an array of their values. Only
straight-line code is executed, and an instruction that is not listed here is an error: a fused
multiply-add, a function that is approximated, a branch.

Source: NVIDIA's "Parallel Thread Execution ISA", version 8.8.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_ENTRY = re.compile(r"\.entry (\w+)\(\s*(.*?)\s*\)\s*(.*?)\{(.*?)\n\}", re.DOTALL)
_STATEMENT = re.compile(r"(?:@(?P<not>!?)(?P<guard>%p\d+) )?(?P<op>[\w.:]+)\s*(?P<operands>.*)")
_SPACE = 1 << 32  # between the addresses of buffers
_TYPES = {
    **{f"{kind}{bits}": f"uint{bits}" for kind in "bu" for bits in (16, 32, 64)},
    **{f"s{bits}": f"int{bits}" for bits in (16, 32, 64)},
    "f32": "float32",
}


class UnknownInstructionError(Exception):
    """An instruction that is not executed here."""


class Value(NamedTuple):
    """An argument that is passed by value: a number, or one for each thread.

    With one for each, every thread is as of a launch of its own.
    """

    number: Any


@dataclass(frozen=True)
class Kernel:
    """An entry of a module: the names of its parameters, its block of threads, its statements."""

    parameters: tuple[str, ...]
    statements: tuple[str, ...]


def kernels(text: str) -> dict[str, Kernel]:
    """The entries of a PTX module, by name."""
    found = {}
    for name, parameters, _, body in _ENTRY.findall(text):
        # Nothing jumps to a label: a branch is not executed here.
        straight = re.sub(r"//[^\n]*|^\$\w+:", "", body, flags=re.MULTILINE)
        statements = [line.strip() for line in straight.split(";")]
        found[name] = Kernel(
            tuple(re.findall(r"(\w+_param_\d+)", parameters)),
            tuple(line for line in statements if line and not line.startswith(".reg ")),
        )
    return found


def launch(kernel: Kernel, grid: int, block: int, arguments: Sequence[Array | Value]) -> None:
    """Run a kernel's threads.

    Args:
        kernel: the kernel.
        grid: how many blocks, along x.
        block: how many threads a block.
        arguments: one for each parameter: a value, or an array that is passed by its address and
            written to in place.
    """
    if len(arguments) != len(kernel.parameters):
        raise ValueError(f"{len(kernel.parameters)} arguments are needed, got {len(arguments)}")
    threads = np.arange(grid * block, dtype=np.uint32)
    specials = {"%ctaid.x": threads // np.uint32(block), "%tid.x": threads % np.uint32(block)}
    values, buffers = {}, {}
    for number, (name, argument) in enumerate(zip(kernel.parameters, arguments, strict=True), 1):
        if isinstance(argument, Value):
            values[name] = argument.number
        else:
            values[name], buffers[number] = _SPACE * number, argument
    _Run(values, buffers, dict[str, Array](specials), len(threads)).execute(kernel)


@dataclass
class _Run:
    """The registers of all threads, and the memory."""

    arguments: Mapping[str, Any]
    buffers: Mapping[int, Array]
    registers: dict[str, Array]
    threads: int
    guard: Array | None = field(default=None)

    def execute(self, kernel: Kernel) -> None:
        with np.errstate(all="ignore"):
            for statement in kernel.statements:
                match = _STATEMENT.fullmatch(statement)
                if match is None:
                    raise UnknownInstructionError(statement)
                self.guard = None
                if match["guard"]:
                    self.guard = self.registers[match["guard"]] ^ bool(match["not"])
                op, *kinds = match["op"].split(".")
                operands = re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", match["operands"])
                if op == "ret" and self.guard is None:
                    return
                if not self._moves(op, kinds, operands):
                    self._computes(match["op"], op, kinds, operands)

    # Memory and moves

    def _moves(self, op: str, kinds: list[str], operands: list[str]) -> bool:
        name = ".".join((op, *kinds))
        if name == "griddepcontrol.wait":
            return True
        if op == "ld" and kinds[0] == "param":
            value = np.asarray(self.arguments[operands[1].strip("[]")])
            self._set(operands[0], kinds[1], _bits(value, kinds[1]))
            return True
        if name in ("mov.b32", "mov.b64") and "{" in operands[0]:
            half = "b16" if name == "mov.b32" else "b32"
            whole = np.ascontiguousarray(self._get(operands[1], kinds[0]))
            parts = whole.view(_TYPES[half]).reshape(-1, 2).T  # the low one first
            for register, part in zip(_names(operands[0]), parts, strict=True):
                if register != "_":
                    self._set(register, half, part)
            return True
        match = re.fullmatch(r"(ld|st)\.global(?:\.nc)?(?:\.v([248]))?\.(\w+)", name)
        if match is None:
            return False
        width, kind = int(match[2] or 1), match[3]
        memory, registers = operands if op == "ld" else operands[::-1]
        if op == "st":
            memory, registers = operands
        else:
            registers, memory = operands
        names = _names(registers)
        if len(names) != width or self.guard is not None:
            raise UnknownInstructionError(name)
        base, _, more = memory.strip("[] ").partition("+")
        address = self._get(base.strip(), "u64") + np.uint64(int(more or 0))
        buffer, index = self._place(address, kind)
        for i, register in enumerate(names):
            if op == "ld":
                self._set(register, kind, buffer[index + i])
            else:
                buffer[index + i] = self._get(register, kind)
        return True

    def _place(self, address: Array, kind: str) -> tuple[Array, Array]:
        [number] = np.unique(address >> np.uint64(32))
        dtype = np.dtype(_TYPES[kind])
        offset = (address & np.uint64(_SPACE - 1)).astype(np.int64)
        if (offset % dtype.itemsize).any():
            raise ValueError("an address is not aligned")
        return self.buffers[int(number)].reshape(-1).view(dtype), offset // dtype.itemsize

    def _get(self, operand: str, kind: str) -> Array:
        dtype = np.dtype(_TYPES[kind])
        if operand.startswith("0f"):
            value = np.array(int(operand[2:], 16), np.uint32)
        elif operand.startswith("%"):
            value = self.registers[operand]
        else:
            bits = 8 * dtype.itemsize
            value = np.array(int(operand, 0) & ((1 << bits) - 1), f"uint{bits}")
        if value.dtype.itemsize != dtype.itemsize:
            raise TypeError(f"{operand} is not of {kind}")
        return np.broadcast_to(value, (self.threads,)).view(dtype)

    def _set(self, register: str, kind: str, value: Any) -> None:
        dtype = np.dtype(_TYPES[kind])
        found = np.broadcast_to(np.asarray(value), (self.threads,))
        if found.dtype != dtype:
            found = found.astype(dtype)
        self.registers[register] = np.ascontiguousarray(found).view(f"uint{8 * dtype.itemsize}")

    # Arithmetic

    def _computes(self, name: str, op: str, kinds: list[str], operands: list[str]) -> None:
        if self.guard is not None:
            raise UnknownInstructionError(f"{name} under a guard")
        result, *sources = operands
        if op == "setp":
            comparison, kind = kinds
            self.registers[result] = _COMPARISONS[comparison](
                *(self._get(source, kind) for source in sources)
            )
        elif op == "selp":
            chosen = self.registers[sources.pop()]
            kind = kinds[0]
            self._set(result, kind, np.where(chosen, *(self._get(s, kind) for s in sources)))
        elif name in _CONVERSIONS:
            kind, of, function = _CONVERSIONS[name]
            self._set(result, kind, function(*(self._get(source, of) for source in sources)))
        elif op in ("shl", "shr") and len(kinds) == 1:
            distance = self._get(sources[1], "u32")
            value = self._get(sources[0], kinds[0])
            if (distance >= 8 * value.itemsize).any():
                raise UnknownInstructionError(f"{name} by {8 * value.itemsize} or more")
            shift = np.left_shift if op == "shl" else np.right_shift
            self._set(result, kinds[0], shift(value, distance.astype(value.dtype)))
        elif name in _SIMPLE:
            kind, function = _SIMPLE[name]
            self._set(result, kind, function(*(self._get(source, kind) for source in sources)))
        elif re.fullmatch(r"(mul|mad)\.wide\.[su]32|mul\.hi\.[su]32", name):
            wide = kinds[1].replace("32", "64")
            a, b = (self._get(source, kinds[1]).astype(_TYPES[wide]) for source in sources[:2])
            product = a * b
            if kinds[0] == "hi":
                self._set(result, kinds[1], (product >> product.dtype.type(32)))
            else:
                more = (self._get(source, wide) for source in sources[2:])
                self._set(result, wide, sum(more, product))
        else:
            raise UnknownInstructionError(name)


def _names(operand: str) -> list[str]:
    """The registers of a vector, or the one of a scalar."""
    return operand.strip("{} ").replace(" ", "").split(",")


def _bits(value: Array, kind: str) -> Array:
    """A value that is passed to a kernel, as its register holds it."""
    size = np.dtype(_TYPES[kind]).itemsize
    if value.dtype.kind == "f":
        return value.view(f"uint{8 * value.itemsize}")
    return (
        (value.astype(np.int64) & ((1 << (8 * size)) - 1)) if size < 8 else value.astype(np.int64)
    )


def _extracted(x: Array, start: Array, count: Array) -> Array:
    """Bits of a word, as an unsigned number."""
    if (start.astype(np.int64) + count > 32).any():
        raise UnknownInstructionError("bfe.u32 beyond a word")
    kept = (np.uint64(1) << count.astype(np.uint64)) - np.uint64(1)
    found: Array = ((x >> start) & kept).astype(np.uint32)
    return found


def _largest(a: Array, b: Array) -> Array:
    """The number if only one is; zeros are told apart by their signs."""
    return np.where((a == 0) & (b == 0), a + b, np.fmax(a, b))


def _smallest(a: Array, b: Array) -> Array:
    return -_largest(-a, -b)


def _rotated(low: Array, high: Array, distance: Array) -> Array:
    """The upper word of two, shifted to the left."""
    both = (high.astype(np.uint64) << np.uint64(32)) | low
    wide: Array = (both << (distance & np.uint32(31)).astype(np.uint64)) >> np.uint64(32)
    return wide.astype(np.uint32)


def _to_integer(x: Array) -> Array:
    """Towards zero; what is out of range saturates, and NaN becomes 0."""
    clipped = np.clip(np.trunc(np.nan_to_num(x.astype(np.float64))), -(2.0**31), 2.0**31 - 1)
    return clipped.astype(np.int32)


def _bfloat16(x: Array) -> Array:
    return x.astype(ml_dtypes.bfloat16).view(np.uint16)


def _two_bfloat16(upper: Array, lower: Array) -> Array:
    high: Array = _bfloat16(upper).astype(np.uint32) << np.uint32(16)
    return high | _bfloat16(lower)


def _add(a: Array, b: Array) -> Array:
    return a + b


_COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "lo": np.less,
    "ls": np.less_equal,
    "hi": np.greater,
    "hs": np.greater_equal,
    "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}

_CONVERSIONS: dict[str, tuple[str, str, Callable[..., Array]]] = {
    "cvt.rn.f32.s32": ("f32", "s32", lambda x: x.astype(np.float32)),
    "cvt.rzi.s32.f32": ("s32", "f32", _to_integer),
    "cvt.rn.bf16.f32": ("b16", "f32", _bfloat16),
    "cvt.rn.bf16x2.f32": ("b32", "f32", _two_bfloat16),
    "cvt.u32.u64": ("u32", "u64", lambda x: x.astype(np.uint32)),
    "cvt.u64.u32": ("u64", "u32", lambda x: x.astype(np.uint64)),
    "cvt.s64.s32": ("s64", "s32", lambda x: x.astype(np.int64)),
}

_SIMPLE: dict[str, tuple[str, Callable[..., Array]]] = {
    "mov.u32": ("u32", np.copy),
    "mov.b32": ("b32", np.copy),
    "mov.u64": ("u64", np.copy),
    "cvta.to.global.u64": ("u64", np.copy),
    **{f"add.{kind}": (kind, _add) for kind in ("s32", "u32", "s64", "u64")},
    **{f"sub.{kind}": (kind, np.subtract) for kind in ("s32", "u32", "s64", "u64")},
    "neg.s32": ("s32", np.negative),
    **{f"mul.lo.{kind}": (kind, np.multiply) for kind in ("s32", "u32", "s64")},
    **{f"mad.lo.{kind}": (kind, lambda a, b, c: a * b + c) for kind in ("s32", "s64")},
    "min.s32": ("s32", np.minimum),
    "bfe.u32": ("u32", _extracted),
    "not.b32": ("b32", np.invert),
    "and.b32": ("b32", np.bitwise_and),
    "or.b32": ("b32", np.bitwise_or),
    "xor.b32": ("b32", np.bitwise_xor),
    "shf.l.wrap.b32": ("b32", _rotated),
    "add.rn.f32": ("f32", _add),
    "sub.rn.f32": ("f32", np.subtract),
    "mul.rn.f32": ("f32", np.multiply),
    "abs.f32": ("f32", np.abs),
    "max.f32": ("f32", _largest),
    "min.f32": ("f32", _smallest),
    "max.NaN.f32": ("f32", np.maximum),
    "min.NaN.f32": ("f32", np.minimum),
}
"""Each rounds once, to nearest with ties to even, as NumPy does; none flushes denormals."""
