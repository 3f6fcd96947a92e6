"""Whole models in parallel: one digest for every mesh; meta models made real; names of stages."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from json import loads
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from examples import llama_torch
from tests.distributed import llama
from tests.distributed.ranks import indices, simulated
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, init_device_mesh
from torch.distributed.tensor.debug import CommDebugMode

import portinit
import portinit_torch
from portinit import Recipe, RecipeError
from portinit_examples import gpt_torch

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).parents[3]
KEY, RECIPE = llama.KEY, llama.RECIPE
NORMAL = Recipe([("*", portinit.normal())])


@cache
def whole() -> nn.Module:
    """The model in one process."""
    return portinit_torch.initialize(llama_torch.make_model(), RECIPE, KEY)


def whole_tensors() -> dict[str, torch.Tensor]:
    return dict(whole().named_parameters())


def whole_digest() -> str:
    return llama.digest(whole_tensors(), whole_tensors())


# Real processes


@cache
def run_ranks(size: int) -> list[dict[str, Any]]:
    """What each rank of a gloo group printed; they are ended whatever happens."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.distributed.worker", f"{folder}/meeting"]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(size)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        try:
            ended = [(*rank.communicate(timeout=200), rank.returncode) for rank in ranks]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()
    for number, (_, error, code) in enumerate(ended):
        assert code == 0, f"rank {number} of {size} ended with {code}:\n{error}"
    return [loads(out) for out, _, _ in ended]


REAL = [(size, way) for size in (2, 4) for way in [*llama.WAYS, "stages"]]
REAL.remove((2, "fsdp+tp"))


@pytest.mark.parametrize(("size", "way"), REAL)
def test_gloo_processes_give_the_digest_of_one_process(size: int, way: str) -> None:
    for found in run_ranks(size):
        assert found[way]["digest"] == whole_digest()


@pytest.mark.parametrize("size", [2, 4])
def test_gloo_processes_send_nothing(size: int) -> None:
    for found in run_ranks(size):
        assert {way: parts["calls"] for way, parts in found.items() if parts["calls"]} == {}
        assert found["fsdp"]["gathering"] == len(whole_tensors())  # so calls are counted


@pytest.mark.parametrize("size", [2, 4])
def test_the_models_run_on_their_weights(size: int) -> None:
    tokens = torch.from_numpy(llama_torch.example_input())
    wanted = whole()(tokens).double().abs().sum().item()
    for found in run_ranks(size):
        for way in ("fsdp", "hsdp"):
            assert found[way]["logits"] == pytest.approx(wanted, rel=1e-5)


def test_the_example_prints_one_digest() -> None:
    command = [sys.executable, "-m", "examples.fsdp2", "1", "2"]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert run.returncode == 0, run.stderr
    sizes, digests = zip(*(line.split(" ranks: ") for line in run.stdout.splitlines()), strict=True)
    assert sizes == ("1", "2")
    assert len(set(digests)) == 1


def test_another_key_has_another_digest() -> None:
    """The digest sees the values."""
    other = portinit_torch.initialize(llama_torch.make_model(), RECIPE, portinit.key(43))
    tensors = dict(other.named_parameters())
    assert llama.digest(tensors, tensors) != whole_digest()


# Ranks simulated one at a time


def on_rank(rank: int, size: int, way: Any) -> Iterator[tuple[str, Any, torch.Tensor]]:
    """Each parameter's name, what it holds of the whole, and its shard."""
    with simulated(rank, size):
        model = way(size)
        with CommDebugMode() as calls:
            portinit_torch.initialize(model, RECIPE, KEY, device="cpu")
        assert calls.get_total_counts() == 0
        for name, parameter in model.named_parameters():
            shard = parameter.detach().to_local()
            yield name, indices(parameter), shard


def fsdp_tp_4(size: int) -> nn.Module:
    return llama.fsdp_tp(size, 4)


@pytest.mark.parametrize("way", [llama.fsdp, fsdp_tp_4])
def test_64_simulated_ranks_put_together_have_the_digest_of_one_process(way: Any) -> None:
    tensors = {name: torch.full_like(tensor, torch.nan) for name, tensor in whole_tensors().items()}
    empty = 0
    for rank in range(64):
        for name, index, shard in on_rank(rank, 64, way):
            tensors[name].detach().numpy()[index] = shard.numpy()
            empty += not shard.numel()
    assert empty  # 33 rows are too few for 64 ranks
    assert llama.digest(tensors, tensors) == whole_digest()


@pytest.mark.parametrize("rank", [0, 17, 32, 511])
@pytest.mark.parametrize("way", [llama.fsdp, llama.hsdp, fsdp_tp_4])
def test_a_rank_of_512_has_its_slice_of_the_whole(way: Any, rank: int) -> None:
    for name, index, shard in on_rank(rank, 512, way):
        assert np.array_equal(shard.numpy(), whole_tensors()[name].detach().numpy()[index]), name


@pytest.mark.parametrize("rank", [0, 100, 4095])
def test_a_rank_of_4096_has_its_slice_of_the_whole(rank: int) -> None:
    sizes = []
    for name, index, shard in on_rank(rank, 4096, llama.fsdp):
        assert np.array_equal(shard.numpy(), whole_tensors()[name].detach().numpy()[index]), name
        sizes.append(shard.numel())
    assert bool(sum(sizes)) == (rank <= 100)  # 101 rows are the most there are


def test_a_trace_of_a_model_serves_its_shards() -> None:
    recipe = portinit_torch.trace(gpt_torch.make_model)
    one = dict(portinit_torch.initialize(gpt_torch.make_model(), recipe, KEY).named_parameters())
    with simulated(2, 3):
        with torch.device("meta"):
            model = gpt_torch.make_model()
        for block in model.blocks:
            fully_shard(block, mesh=init_device_mesh("cpu", (3,)))
        fully_shard(model, mesh=init_device_mesh("cpu", (3,)))
        portinit_torch.initialize(model, recipe, KEY, device="cpu")
        assert model.lm_head.weight is model.wte.weight  # tied, sharded and made real
        for name, parameter in model.named_parameters():
            wanted = one[name].detach().numpy()[indices(parameter)]
            assert np.array_equal(parameter.detach().to_local().numpy(), wanted), name


def test_a_bound_recipe_of_the_meta_model_is_of_whole_shapes() -> None:
    bound = portinit_torch.bind(llama.on_meta(), portinit.recipes.torch_defaults())
    one = portinit_torch.initialize(llama_torch.make_model(), bound, KEY)
    with simulated(1, 4):
        model = llama.fsdp_tp(4)
        assert portinit_torch.bind(model, portinit.recipes.torch_defaults()) == bound
        portinit_torch.initialize(model, bound, KEY, device="cpu")
        for (name, parameter), tensor in zip(
            model.named_parameters(), one.parameters(), strict=True
        ):
            wanted = tensor.detach().numpy()[indices(parameter)]
            assert np.array_equal(parameter.detach().to_local().numpy(), wanted), name


def test_fans_are_of_whole_shapes() -> None:
    """A bias is drawn from the fan_in of a kernel that is split along its inputs."""
    with simulated(0, 4), torch.device("meta"):
        layer = nn.Sequential(nn.Linear(8, 4))
        fully_shard(
            layer,
            mesh=init_device_mesh("cpu", (4,)),
            shard_placement_fn=lambda p: torch.distributed.tensor.Shard(p.ndim - 1),
        )
        assert layer[0].weight.to_local().shape == (4, 2)
        assert [p.fan_in for p in portinit_torch.parameters(layer)] == [8, 8]


def test_bfloat16() -> None:
    one = portinit_torch.initialize(llama_torch.make_model().bfloat16(), RECIPE, KEY)
    with simulated(1, 2):
        mesh = init_device_mesh("cpu", (2,))
        model = llama.sharded(llama.on_meta().bfloat16(), mesh)
        portinit_torch.initialize(model, RECIPE, KEY, device="cpu")
        for parameter, tensor in zip(model.parameters(), one.parameters(), strict=True):
            assert parameter.dtype == torch.bfloat16
            rows = torch.from_numpy(indices(parameter)[0].ravel())
            assert torch.equal(parameter.detach().to_local(), tensor.detach()[rows])


# Meta models made real


def test_meta_parameters_are_made_and_filled() -> None:
    model = llama.on_meta()
    assert portinit_torch.initialize(model, RECIPE, KEY, device="cpu") is model
    tensors = dict(model.named_parameters())
    assert llama.digest(tensors, tensors) == whole_digest()
    assert all(type(tensor) is nn.Parameter for tensor in tensors.values())


def test_what_is_real_stays_where_it_is() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, device="meta"))
    model[0].weight.remark = "kept"
    first, place = model[0].weight, model[0].weight.data_ptr()
    portinit_torch.initialize(model, NORMAL, KEY, device="cpu")
    assert model[0].weight is first
    assert model[0].weight.data_ptr() == place
    assert model[0].weight.remark == "kept"
    one = portinit_torch.initialize(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), NORMAL, KEY)
    assert all(map(torch.equal, model.parameters(), one.parameters()))


def test_requires_grad_is_kept() -> None:
    layer = nn.Linear(3, 4, device="meta")
    layer.weight.requires_grad_(False)
    portinit_torch.initialize(layer, NORMAL, KEY, device="cpu")
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad


def test_tied_parameters_stay_one() -> None:
    with torch.device("meta"):
        model = gpt_torch.make_model()
    portinit_torch.initialize(model, NORMAL, KEY, device="cpu")
    assert model.lm_head.weight is model.wte.weight
    assert len([*model.parameters()]) == len([*gpt_torch.make_model().parameters()])
    wanted = portinit.normal()(KEY.fold_in("wte.weight"), (61, 32), layout="torch")
    assert np.array_equal(model.lm_head.weight.detach().numpy(), wanted)


def test_a_shared_module_stays_one() -> None:
    layer = nn.Linear(2, 2, device="meta")
    model = nn.Sequential(layer, nn.ReLU(), layer)
    portinit_torch.initialize(model, NORMAL, KEY, device="cpu")
    assert model[0] is model[2]
    assert len([*model.parameters()]) == 2


def test_recurrent_layers_run_on_what_they_were_given() -> None:
    """They keep flat references to their weights."""
    recipe = portinit.recipes.torch_defaults()
    meta, real = nn.LSTM(3, 4, device="meta"), nn.LSTM(3, 4)
    x = torch.linspace(-1, 1, 6).reshape(2, 1, 3)
    outputs = [portinit_torch.initialize(m, recipe, KEY, device="cpu")(x)[0] for m in (meta, real)]
    assert torch.equal(*outputs)


def test_running_statistics_are_made_too() -> None:
    model = nn.BatchNorm1d(3, device="meta")
    portinit_torch.initialize(model, portinit.recipes.torch_defaults(), KEY, device="cpu")
    assert model.running_var.tolist() == [1, 1, 1]
    assert model.num_batches_tracked == 0
    assert model(torch.eye(3)).shape == (3, 3)


class Rotary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("inv_freq", torch.ones(2), persistent=False)
        self.fc = nn.Linear(2, 2)


def test_meta_buffers_without_a_rule_are_listed_and_nothing_is_made() -> None:
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(RecipeError, match=r"inv_freq: a buffer on the meta device.*add a rule"):
        portinit_torch.initialize(model, NORMAL, KEY, device="cpu")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    model.inv_freq = torch.tensor([1.0, 0.1])
    portinit_torch.initialize(model, NORMAL, KEY, device="cpu")
    assert torch.equal(model.inv_freq, torch.tensor([1.0, 0.1]))


def test_a_meta_buffer_with_a_rule_is_made() -> None:
    with torch.device("meta"):
        model = Rotary()
    recipe = Recipe([("inv_freq", portinit.assign([1.0, 0.1]))]) + NORMAL
    portinit_torch.initialize(model, recipe, KEY, device="cpu")
    assert torch.equal(model.inv_freq, torch.tensor([1.0, 0.1]))


def test_a_shared_buffer_stays_one() -> None:
    with torch.device("meta"):
        model = nn.ModuleList([Rotary(), Rotary()])
    model[1].inv_freq = model[0].inv_freq
    recipe = Recipe([("0.inv_freq", portinit.ones)]) + NORMAL
    portinit_torch.initialize(model, recipe, KEY, device="cpu")
    assert model[1].inv_freq is model[0].inv_freq
    assert model[0].inv_freq.tolist() == [1, 1]


def test_a_misfit_leaves_a_meta_model_on_the_meta_device() -> None:
    model = nn.Linear(3, 4, device="meta")
    with pytest.raises(RecipeError, match="bias"):
        portinit_torch.initialize(model, Recipe([("weight", portinit.zeros)]), KEY, device="cpu")
    assert model.weight.is_meta


def test_no_device_and_the_meta_device_are_refused() -> None:
    model = nn.Linear(3, 4, device="meta")
    with pytest.raises(RecipeError, match=r"device=\.\.\..*to_empty"):
        portinit_torch.initialize(model, NORMAL, KEY)
    with pytest.raises(ValueError, match=r"with memory.*got meta"):
        portinit_torch.initialize(model, NORMAL, KEY, device="meta")


def test_partial_parameters_are_listed_and_nothing_is_written() -> None:
    with simulated(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        good, bad = (
            DTensor.from_local(torch.full((2, 2), 77.0), mesh, [placement])
            for placement in (Replicate(), Partial())
        )
        model = nn.ParameterDict({"good": nn.Parameter(good), "bad": nn.Parameter(bad)})
        with pytest.raises(RecipeError, match=r"bad \(2, 2\).*P\(sum\)"):
            portinit_torch.initialize(model, NORMAL, KEY)
        assert (good.to_local() == 77).all()


# Names


def test_a_stage_takes_the_names_of_the_whole() -> None:
    for rank in (0, 1):
        model, names = llama.stage(rank)
        portinit_torch.initialize(model, RECIPE, KEY, device="cpu", names=names)
        for name, tensor in model.named_parameters():
            called = name.replace("layers.0", "layers.2") if rank else name
            assert torch.equal(tensor, whole_tensors()[called])


def by_names(names: dict[str, str]) -> nn.Module:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2, bias=False)), nn.Linear(2, 2, bias=False))
    return portinit_torch.initialize(model, NORMAL, KEY, names=names)


@pytest.mark.parametrize(
    ("names", "called"),
    [
        ({}, ("0.0.weight", "1.weight")),
        ({"0": "a"}, ("a.0.weight", "1.weight")),
        ({"0": "a", "0.0": "b.c"}, ("b.c.weight", "1.weight")),
        ({"0.0.weight": "w"}, ("w", "1.weight")),
        ({"": "model"}, ("model.0.0.weight", "model.1.weight")),
        ({"0": ""}, ("0.weight", "1.weight")),
    ],
)
def test_the_longest_prefix_is_replaced(names: dict[str, str], called: tuple[str, str]) -> None:
    model = by_names(names)
    for tensor, name in zip(model.parameters(), called, strict=True):
        wanted = portinit.normal()(KEY.fold_in(name), (2, 2), layout="torch")
        assert np.array_equal(tensor.detach().numpy(), wanted)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ({"2": "a"}, "2: in names, but nothing in the module is called so"),
        ({"0.": "a"}, "0.: in names, but nothing"),
        ({"1": "0.0"}, "0.0.weight: 2 tensors of the module would have this name"),
    ],
)
def test_names_that_lead_nowhere_or_to_one_are_refused(names: dict[str, str], line: str) -> None:
    with pytest.raises(RecipeError) as raised:
        by_names(names)
    assert line in str(raised.value)


def compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model, backend="eager")


WRAPPERS = {
    "compiled": compiled,
    "checkpointed": checkpoint_wrapper,
    "both": lambda model: compiled(checkpoint_wrapper(model)),
    "parallel": nn.DataParallel,
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers_are_seen_through(wrap: Any) -> None:
    for outside in (False, True):
        model = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 2)))
        model[1] = wrap(model[1])
        wrapped = wrap(model) if outside else model
        portinit_torch.initialize(wrapped, NORMAL, KEY)
        found = [parameter.name for parameter in portinit_torch.parameters(wrapped)]
        assert found == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
        assert portinit_torch.bind(wrapped, NORMAL).names == tuple(found)
        for name, tensor in zip(found, wrapped.parameters(), strict=True):
            drawn = portinit.normal()(KEY.fold_in(name), tuple(tensor.shape), layout="torch")
            assert np.array_equal(tensor.detach().numpy(), drawn)


def test_distributed_data_parallel_is_seen_through() -> None:
    with simulated(0, 2):
        model = nn.parallel.DistributedDataParallel(nn.Linear(3, 4))
        assert [p.name for p in portinit_torch.parameters(model)] == ["weight", "bias"]


def test_a_submodule_that_is_called_module_keeps_its_name() -> None:
    model = nn.ModuleDict({"module": nn.Linear(2, 2)})
    assert [p.name for p in portinit_torch.parameters(model)] == ["module.weight", "module.bias"]
