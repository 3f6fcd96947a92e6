"""Chips that are not here, by their compilers: what a draw takes on a TPU, beside JAX's own.

    pip install 'portinit[chips]'
    python -m benchmarks.chips
    python -m benchmarks.chips --chips v5e:2x2 --only '*normal*' --json

JAX compiles for a TPU without one. A TPU's code is scheduled statically, so the compiler's estimate
of a fusion's cycles, which depends on nothing but the code, stands for a measurement. A look-up
becomes a fusion of its own kind, for which there is no estimate.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import click

CHIPS = ("v5e:2x2", "v6e:2x2")
SHAPE = (4096, 4096)
DTYPES = ("float32", "bfloat16")

_COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


@dataclass(frozen=True)
class Witness:
    """What a compiler made of a function.

    Attributes:
        cycles: the estimated cycles of all fusions that have an estimate.
        fusions: how many fusions there are.
        custom: how many of them are of a kind of their own, as look-ups are.
        lookups: how many gathers are left.
        collectives: how many operations communicate between devices.
        temporaries: bytes of temporary memory for each byte of the result.
        seconds: what tracing and compilation took.
    """

    cycles: int
    fusions: int
    custom: int
    lookups: int
    collectives: int
    temporaries: float
    seconds: float


def has_compiler() -> bool:
    """Whether the compiler of TPUs is installed."""
    return importlib.util.find_spec("libtpu") is not None


@cache
def devices(chip: str) -> tuple[Any, ...]:
    """The devices of a slice of TPUs that need not be here, such as ``"v5e:2x2"``."""
    found = importlib.util.find_spec("libtpu")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("libtpu is needed: pip install 'portinit[chips]'")
    # The library asks a cloud's servers which machine this is, unless it is told not to.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_LIBRARY_PATH", str(Path(found.origin).with_name("libtpu.so")))
    from jax.experimental import topologies

    return tuple(topologies.get_topology_desc(platform="tpu", topology_name=chip).devices)


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
    start = time.perf_counter()
    traced = jax.jit(function, out_shardings=out).trace(key)
    program = traced.lower(lowering_platforms=("tpu",)).compile()
    seconds = time.perf_counter() - start
    return _witness(program, seconds)


def _witness(program: Any, seconds: float) -> Witness:
    text, memory = program.as_text(), program.memory_analysis()
    return Witness(
        cycles=sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', text))),
        fusions=len(re.findall(r" fusion\(", text)),
        custom=text.count("kind=kCustom"),
        lookups=len(re.findall(r" gather\(", text)),
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
        "kaiming_normal": (pi.kaiming_normal(), "normal"),
        "trunc_normal": (pi.trunc_normal(), "truncated_normal"),
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
                        "ratio": ours.cycles / other.cycles,
                        "ours": asdict(ours),
                        "theirs": asdict(other),
                    }
                )
    return found


@click.command()
@click.option("--chips", default=",".join(CHIPS), help="Names, parted by commas.")
@click.option("--only", default="*", help="A pattern of draws' names.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, not a table.")
def main(chips: str, only: str, as_json: bool) -> None:
    """Compile draws for chips that are not here, and JAX's own beside them."""
    found = rows(chips.split(","), only)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo("| chip | draw | dtype | cycles | of JAX's | look-ups | temporaries |")
    click.echo("|---|---|---|---|---|---|---|")
    for row in found:
        ours = row["ours"]
        click.echo(
            f"| {row['chip']} | {row['draw']} | {row['dtype']} | {ours['cycles']:,} "
            f"| {row['ratio']:.2f} | {ours['custom'] + ours['lookups']} "
            f"| {ours['temporaries']:.1%} |"
        )


if __name__ == "__main__":
    main()
