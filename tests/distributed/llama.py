"""The example's Llama in parallel: what each way does to a model on the meta device."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from examples import llama_torch
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import Shard, init_device_mesh
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import portinit

KEY = portinit.key(42)
RECIPE = portinit.recipes.gpt2(layers=llama_torch.NUM_LAYERS)
_PLAN = {
    **dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj"), ColwiseParallel()),
    **dict.fromkeys(("self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"), ColwiseParallel()),
    **dict.fromkeys(("self_attn.o_proj", "mlp.down_proj"), RowwiseParallel()),
}

Tensors = Mapping[str, torch.Tensor]


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return llama_torch.make_model()


def sharded(model: nn.Module, mesh: Any, **options: Any) -> nn.Module:
    for layer in model.layers:
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def tensor_parallel(model: nn.Module, mesh: Any) -> nn.Module:
    for layer in model.layers:
        parallelize_module(layer, mesh, _PLAN)
    head = {"lm_head": ColwiseParallel(), "embed_tokens": RowwiseParallel()}
    return parallelize_module(model, mesh, head)


def fsdp(size: int) -> nn.Module:
    return sharded(on_meta(), init_device_mesh("cpu", (size,)))


def offloaded(size: int) -> nn.Module:
    mesh = init_device_mesh("cpu", (size,))
    return sharded(on_meta(), mesh, offload_policy=CPUOffloadPolicy(pin_memory=False))


def hsdp(size: int) -> nn.Module:
    names = ("replicate", "shard")
    return sharded(on_meta(), init_device_mesh("cpu", (2, size // 2), mesh_dim_names=names))


def fsdp_tp(size: int, ways: int = 2) -> nn.Module:
    mesh = init_device_mesh("cpu", (size // ways, ways), mesh_dim_names=("dp", "tp"))
    return sharded(tensor_parallel(on_meta(), mesh["tp"]), mesh["dp"])


def fsdp_of_columns(size: int) -> nn.Module:
    """Matrices whose columns divide are split along them; FSDP2 asks for an even split there."""
    mesh = init_device_mesh("cpu", (size,))

    def place(parameter: nn.Parameter) -> Shard:
        even = parameter.ndim == 2 and parameter.shape[1] % size == 0
        return Shard(1) if even else Shard(0)

    return sharded(on_meta(), mesh, shard_placement_fn=place)


def stage(rank: int) -> tuple[nn.Module, dict[str, str]]:
    """One of two pipeline stages, numbered from 0, and the whole model's names for it."""
    model = on_meta()
    if rank == 0:
        del model.lm_head, model.norm
        model.layers = model.layers[:2]
        return model, {}
    del model.embed_tokens
    model.layers = model.layers[2:]
    return model, {"layers.0": "layers.2"}


WAYS: dict[str, Callable[[int], nn.Module]] = {
    "fsdp": fsdp,
    "offloaded": offloaded,
    "columns": fsdp_of_columns,
    "hsdp": hsdp,
    "fsdp+tp": fsdp_tp,
}


def digest(tensors: Tensors, order: Iterable[str]) -> str:
    """SHA-256 of names and bytes, in the whole model's order."""
    total = hashlib.sha256()
    for name in order:
        total.update(name.encode())
        total.update(tensors[name].detach().contiguous().numpy().tobytes())
    return total.hexdigest()
