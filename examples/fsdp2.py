"""A Llama under FSDP2: one digest of its weights, whatever the number of ranks.

``python -m examples.fsdp2`` starts its own ranks, on the CPU: 1, then 2, then 4 of them,
or as many as its arguments say.
``torchrun --nproc-per-node 2 -m examples.fsdp2`` runs on the ranks that it is given, on
GPUs if there are any.
"""

import hashlib
import os
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

import portinit
import portinit_torch
from examples import llama_torch


def build(mesh: DeviceMesh) -> nn.Module:
    """A sharded model: made on the meta device, split, and only then given memory and values."""
    with torch.device("meta"):
        model = llama_torch.make_model()
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    recipe = portinit.recipes.gpt2(layers=llama_torch.NUM_LAYERS)
    return portinit_torch.initialize(model, recipe, portinit.key(0), device=mesh.device_type)


def digest(model: nn.Module) -> str:
    """SHA-256 of all names and values; each tensor is put together on every rank in turn."""
    total = hashlib.sha256()
    for name, parameter in model.named_parameters():
        whole = parameter.detach().full_tensor().cpu()
        total.update(name.encode())
        total.update(whole.numpy().tobytes())
    return total.hexdigest()


def run(device: str) -> None:
    """What each rank does once it is in a process group."""
    found = digest(build(init_device_mesh(device, (dist.get_world_size(),))))
    if dist.get_rank() == 0:
        print(f"{dist.get_world_size()} ranks: {found}", flush=True)  # noqa: T201
    dist.barrier()  # nobody leaves while another still reads
    dist.destroy_process_group()


def start(rank: int, size: int, meeting: str) -> None:
    """One rank of those that the script starts itself."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    run("cpu")


def main() -> None:
    """Run on torchrun's ranks, or start some."""
    if dist.is_torchelastic_launched():
        gpu = torch.cuda.is_available()
        if gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("nccl" if gpu else "gloo")
        run("cuda" if gpu else "cpu")
        return
    for size in [int(n) for n in sys.argv[1:]] or (1, 2, 4):
        with tempfile.TemporaryDirectory() as folder:
            meeting = (Path(folder) / "meeting").as_uri()
            multiprocessing.spawn(start, (size, meeting), nprocs=size)


if __name__ == "__main__":
    main()
