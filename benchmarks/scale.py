"""What one rank of many does to initialise its part of a model that no machine holds.

``python -m benchmarks.scale`` builds a Llama-shaped model of 10^12 parameters on the meta device,
divides it by FSDP2 over ranks that are simulated (no other process is there, and nothing is sent),
and initialises the shards of one of them.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore

import portinit
import portinit_torch


class Block(nn.Module):
    """The parameters of a Llama's layer; it is not run."""

    def __init__(self, width: int) -> None:
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(width, width, bias=False))
        self.gate_proj = nn.Linear(width, 4 * width, bias=False)
        self.up_proj = nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)
        self.input_layernorm = nn.RMSNorm(width)
        self.post_attention_layernorm = nn.RMSNorm(width)


class Model(nn.Module):
    """The parameters of a Llama."""

    def __init__(self, layers: int, width: int, vocabulary: int = 128256) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(Block(width) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        self.lm_head = nn.Linear(width, vocabulary, bias=False)


def measure(ranks: int, rank: int, layers: int, width: int) -> dict[str, Any]:
    """Seconds of each step on one rank, and what it holds afterwards."""
    found: dict[str, Any] = {"ranks": ranks, "rank": rank}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        found[f"{step}, s"] = round(time.perf_counter() - start, 2)

    portinit.normal()(portinit.key(0), (1 << 20,))  # numba is loaded
    dist.init_process_group("fake", rank=rank, world_size=ranks, store=FakeStore())
    try:
        with timed("build on meta"), torch.device("meta"):
            model = Model(layers, width).to(torch.bfloat16)
        with timed("fully_shard"):
            mesh = init_device_mesh("cpu", (ranks,))
            for block in (*model.layers, model):
                fully_shard(block, mesh=mesh)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with timed("initialize"):
            recipe = portinit.recipes.gpt2(layers=layers)
            portinit_torch.initialize(model, recipe, portinit.key(0), device="cpu")
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    finally:
        dist.destroy_process_group()
    shards: list[Any] = [parameter.to_local() for parameter in model.parameters()]  # type: ignore[attr-defined]
    return found | {
        "tensors": len(shards),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "elements here": sum(shard.numel() for shard in shards),
        "bytes here": sum(shard.nbytes for shard in shards),
        "memory added, KiB": grown,
    }


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--ranks", type=int, default=10_000)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--layers", type=int, default=148)
    parser.add_argument("--width", type=int, default=20480)
    options = parser.parse_args()
    print(json.dumps(measure(**vars(options)), indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
