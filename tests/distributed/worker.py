"""One rank of a gloo group: initialises the model each way, and prints what it finds as JSON."""

import datetime as dt
import json
import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from examples import llama_torch
from torch import nn
from torch.distributed.tensor.debug import CommDebugMode

import portinit_torch
from portinit_torch.naming import renamed
from tests.distributed import llama

TIMEOUT = dt.timedelta(seconds=120)


def initialized(model: nn.Module, **options: Any) -> int:
    """Initialise a model; the number of communication calls that it took."""
    with CommDebugMode() as calls:
        portinit_torch.initialize(model, llama.RECIPE, llama.KEY, device="cpu", **options)
    return int(calls.get_total_counts())


def one_way(way: str, size: int) -> dict[str, Any]:
    model = llama.WAYS[way](size)
    calls = initialized(model)
    with CommDebugMode() as gathering:  # that calls are counted at all
        whole = {name: tensor.full_tensor() for name, tensor in model.named_parameters()}
    found = {"digest": llama.digest(whole, whole), "calls": calls}
    found["gathering"] = int(gathering.get_total_counts())
    tokens = torch.from_numpy(llama_torch.example_input())
    if way in ("fsdp", "hsdp"):
        with torch.no_grad():
            found["logits"] = model(tokens).double().abs().sum().item()
    return found


def stages(rank: int, size: int) -> dict[str, Any]:
    model, names = llama.stage(rank % 2)
    calls = initialized(model, names=names)
    mine = {renamed(name, names): tensor.detach() for name, tensor in model.named_parameters()}
    parts: list[Any] = [None] * size
    dist.all_gather_object(parts, mine)
    whole = {name: tensor for part in parts for name, tensor in part.items()}
    order = [name for name, _ in llama.on_meta().named_parameters()]
    return {"digest": llama.digest(whole, order), "calls": calls}


def main(meeting: str, rank: int, size: int) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{meeting}", rank=rank, world_size=size, timeout=TIMEOUT
    )
    try:
        found = {way: one_way(way, size) for way in llama.WAYS if size > 2 or way != "fsdp+tp"}
        found["stages"] = stages(rank, size)
        sys.stdout.write(json.dumps(found))
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
