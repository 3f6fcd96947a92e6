"""Chips that are not here, by their compilers: what a draw takes there, beside JAX's own.

    pip install 'portinit[chips]'
    python -m benchmarks.chips
    python -m benchmarks.chips --chips v5e:2x2 --only '*normal*' --json

JAX compiles for a TPU without one. A TPU's code is scheduled statically, so the compiler's estimate
of a fusion's cycles, which depends on nothing but the code, stands for a measurement. A look-up
becomes a fusion of its own kind, for which there is no estimate.

A GPU's code is PTX. It has no estimate of cycles; the passes over memory, the temporaries and the
fused multiply-adds are counted. Its compiler belongs in an environment of its own, without libtpu:

    pip install 'portinit[jax,cli]' jax-cuda12-plugin jax-cuda12-pjrt nvidia-cuda-nvcc-cu12
    JAX_PLATFORMS=cpu python -m benchmarks.chips --chips h100
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import click

TPUS = ("v5e:2x2", "v6e:2x2")
GPUS = {
    "h100": """
        gpu_device_info {
            cuda_compute_capability { major: 9 }
            core_count: 132
            fpus_per_core: 128
            threads_per_warp: 32
            threads_per_block_limit: 1024
            threads_per_core_limit: 2048
            registers_per_core_limit: 65536
            registers_per_block_limit: 65536
            shared_memory_per_block: 49152
            shared_memory_per_block_optin: 232448
            shared_memory_per_core: 233472
            block_dim_limit_x: 2147483647
            block_dim_limit_y: 65535
            block_dim_limit_z: 65535
            clock_rate_ghz: 1.98
            memory_bandwidth: 3352320000000
            l2_cache_size: 52428800
            device_memory_size: 84978434048
        }
        platform_name: "CUDA"
        runtime_version { major: 12 minor: 9 }
        dnn_version_info { major: 9 minor: 8 }
        device_description_str: "NVIDIA H100 80GB HBM3"
    """,
}
"""XLA's description of each, in protobuf's text format."""

SHAPE = (4096, 4096)
DTYPES = ("float32", "bfloat16")

_COMPILERS = {"tpu": "libtpu", "cuda": "jax_cuda12_plugin"}
MULTIPLY_ADD = re.compile(
    r"\b(?:fma|mad)\.r[nzmp]\."
    r"|\b(?:mul|add|sub)(?:\.ftz|\.sat)*\.b?f\d"  # Without a rounding, PTX's assembler may fuse it.
)
_COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


@dataclass(frozen=True)
class Witness:
    """What a compiler made of a function.

    Attributes:
        cycles: the estimated cycles of all fusions that have an estimate; None for a GPU.
        fusions: how many fusions there are.
        passes: how many of them write as many elements as the largest does.
        custom: how many of them are of a kind of their own, as look-ups are.
        lookups: how many gathers are left.
        multiply_adds: how many multiply-adds of floats its PTX fuses, with the products and sums
            that its assembler may fuse; None for a TPU.
        collectives: how many operations communicate between devices.
        temporaries: bytes of temporary memory for each byte of the result.
        seconds: what tracing and compilation took.
    """

    cycles: int | None
    fusions: int
    passes: int
    custom: int
    lookups: int
    multiply_adds: int | None
    collectives: int
    temporaries: float
    seconds: float


def platform(chip: str) -> str:
    """The platform of a chip, by JAX's name for it."""
    return "cuda" if chip in GPUS else "tpu"


def has_compiler(chip: str) -> bool:
    """Whether the compiler for a chip is installed."""
    return importlib.util.find_spec(_COMPILERS[platform(chip)]) is not None


@cache
def devices(chip: str) -> tuple[Any, ...]:
    """The devices of a chip, or of a slice of them, that need not be here.

    Args:
        chip: one of :data:`GPUS`, or a topology of TPUs such as ``"v5e:2x2"``.
    """
    found = importlib.util.find_spec(_COMPILERS[platform(chip)])
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{_COMPILERS[platform(chip)]} is needed to compile for {chip}")
    if platform(chip) == "cuda":
        wanted = {"topology": "1x1x1", "target_config": GPUS[chip]}
    else:
        # The library asks a cloud's servers which machine this is, unless it is told not to.
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        os.environ.setdefault("TPU_LIBRARY_PATH", str(Path(found.origin).with_name("libtpu.so")))
        wanted = {"topology_name": chip}
    from jax.experimental import topologies

    return tuple(topologies.get_topology_desc(platform=platform(chip), **wanted).devices)


def compiled(function: Callable[..., Any], chip: str, sharding: Any = None) -> Witness:
    """Compile a function of a raw key for a chip.

    Args:
        function: takes the two uint32 words of a key.
        chip: a name that :func:`devices` knows.
        sharding: of the result, over those devices; None for the first of them.
    """
    import jax
    from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

    out: Any = SingleDeviceSharding(devices(chip)[0]) if sharding is None else sharding
    everywhere = PartitionSpec()  # type: ignore[no-untyped-call]
    whole = NamedSharding(out.mesh, everywhere) if sharding is not None else out
    key = jax.ShapeDtypeStruct((2,), "uint32", sharding=whole)  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        traced = jax.jit(function, out_shardings=out).trace(key)
        lowered = traced.lower(lowering_platforms=(platform(chip),))
        if platform(chip) == "tpu":
            return witness(lowered.compile(), time.perf_counter() - start)
        program = lowered.compile(compiler_options={"xla_dump_to": folder})
        seconds = time.perf_counter() - start
        found = [path.read_text() for path in Path(folder).glob("*.ptx")]
    if not found:
        raise RuntimeError(f"the compiler for {chip} wrote no PTX")
    return witness(program, seconds, "\n".join(found))


def witness(program: Any, seconds: float, ptx: str | None = None) -> Witness:
    """What a compiled program tells of itself.

    Args:
        program: a ``jax.stages.Compiled``.
        seconds: what tracing and compilation took.
        ptx: its PTX, for a GPU.
    """
    text, memory = program.as_text(), program.memory_analysis()
    shapes = re.findall(r" = \w+\[([\d,]*)\]\S* fusion\(", text)
    sizes = [prod(map(int, shape.split(","))) if shape else 1 for shape in shapes]
    cycles = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', text)))
    return Witness(
        cycles=cycles if ptx is None else None,
        fusions=len(re.findall(r" fusion\(", text)),
        passes=sizes.count(max(sizes, default=0)),
        custom=text.count("kind=kCustom"),
        lookups=len(re.findall(r" gather\(", text)),
        multiply_adds=None if ptx is None else len(MULTIPLY_ADD.findall(ptx)),
        collectives=sum(len(re.findall(rf" {name}(?:-start)?\(", text)) for name in _COLLECTIVES),
        temporaries=memory.temp_size_in_bytes / memory.output_size_in_bytes,
        seconds=seconds,
    )


def draws() -> dict[str, tuple[Any, str]]:
    """Initializers, and the function of JAX's that each is compared with."""
    import portinit as pi

    return {
        "uniform": (pi.uniform(), "uniform"),
        "uniform, symmetric": (pi.uniform(-0.3, 0.3), "uniform"),
        "uniform, asymmetric": (pi.uniform(-0.3, 0.7), "uniform"),
        "he_uniform": (pi.he_uniform(), "uniform"),
        "normal": (pi.normal(std=0.02), "normal"),
        "normal, with a mean": (pi.normal(mean=0.5, std=0.3), "normal"),
        "kaiming_normal": (pi.kaiming_normal(), "normal"),
        "trunc_normal": (pi.trunc_normal(), "truncated_normal"),
        "trunc_normal, with a mean": (pi.trunc_normal(0.1, 0.7, -0.3, 1.9), "truncated_normal"),
        "truncated_normal": (pi.truncated_normal(), "truncated_normal"),
        "he_normal": (pi.he_normal(), "truncated_normal"),
    }


def of_jax(name: str, dtype: str) -> Callable[[Any], Any]:
    """JAX's own draw, of a raw key."""
    import jax

    def draw(words: Any) -> Any:
        key = jax.random.wrap_key_data(words, impl="threefry2x32")
        if name == "truncated_normal":
            return jax.random.truncated_normal(key, -2.0, 2.0, SHAPE, dtype)
        function = {"uniform": jax.random.uniform, "normal": jax.random.normal}[name]
        return function(key, SHAPE, dtype)

    return draw


def of_portinit(initializer: Any, dtype: str) -> Callable[[Any], Any]:
    """An initializer's draw, of a raw key."""
    return lambda words: initializer(words, SHAPE, dtype)


def rows(chips: Sequence[str], only: str = "*") -> list[dict[str, Any]]:
    """A row for each chip, initializer and dtype."""
    found = []
    for chip in chips:
        for dtype in DTYPES:
            theirs: dict[str, Witness] = {}
            for name, (initializer, theirs_name) in draws().items():
                if not fnmatch(name, only):
                    continue
                if theirs_name not in theirs:
                    theirs[theirs_name] = compiled(of_jax(theirs_name, dtype), chip)
                ours, other = compiled(of_portinit(initializer, dtype), chip), theirs[theirs_name]
                found.append(
                    {
                        "chip": chip.partition(":")[0],
                        "draw": name,
                        "dtype": dtype,
                        "ratio": ours.cycles / other.cycles
                        if ours.cycles and other.cycles
                        else None,
                        "ours": asdict(ours),
                        "theirs": asdict(other),
                    }
                )
    return found


@click.command()
@click.option("--chips", help="Names, parted by commas; else all whose compiler is installed.")
@click.option("--only", default="*", help="A pattern of draws' names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
def main(chips: str | None, only: str, as_json: bool) -> None:
    """Compile draws for chips that are not here, and JAX's own beside them."""
    names = chips.split(",") if chips else [chip for chip in (*TPUS, *GPUS) if has_compiler(chip)]
    if not names:
        raise click.ClickException(f"none of {', '.join(_COMPILERS.values())} is installed")
    found = rows(names, only)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(
        "| chip | draw | dtype | cycles | of JAX's | passes | look-ups | multiply-adds, JAX's "
        "| temporaries |"
    )
    click.echo("|---" * 9 + "|")
    for row in found:
        ours, theirs = row["ours"], row["theirs"]
        cells = (
            row["chip"],
            row["draw"],
            row["dtype"],
            "" if ours["cycles"] is None else f"{ours['cycles']:,}",
            "" if row["ratio"] is None else f"{row['ratio']:.2f}",
            ours["passes"],
            ours["custom"] + ours["lookups"],
            ""
            if ours["multiply_adds"] is None
            else f"{ours['multiply_adds']}, {theirs['multiply_adds']}",
            f"{ours['temporaries']:.1%}",
        )
        click.echo("| " + " | ".join(map(str, cells)) + " |")


if __name__ == "__main__":
    main()
