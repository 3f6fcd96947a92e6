"""DTensors: any rank's shard has the bytes that the whole tensor has there, and nothing is sent."""

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from tests.distributed.ranks import held, indices, simulated
from torch.distributed.tensor import (
    DTensor,
    Partial,
    Replicate,
    Shard,
    distribute_tensor,
    init_device_mesh,
)
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.placement_types import _StridedShard
from torch.utils._python_dispatch import TorchDispatchMode

import portinit as pi
import portinit_torch
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends.kernels import filling
from portinit_torch.sharded import parts

pytestmark = pytest.mark.distributed

KEY = pi.key(3)
PLACEMENTS = (
    Replicate(),
    Shard(0),
    Shard(1),
    _StridedShard(0, split_factor=2),
    _StridedShard(1, split_factor=3),
)


def strided(dim: int, factor: int) -> Any:
    return _StridedShard(dim, split_factor=factor)


def sharded(whole: torch.Tensor, mesh: Any, placements: Any) -> DTensor:
    """Each rank cuts its own part out: nothing is sent."""
    return distribute_tensor(whole, mesh, placements, src_data_rank=None)


# Which elements a shard has


def counters(grid: Grid) -> Any:
    """A grid's counters, for fewer elements than 2**32."""
    return np.broadcast_to(grid.counters(np, None)[1], grid.array_shape)


def random_case(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...], list[Any]]:
    """A mesh, a shape that may have empty shards, and a placement for each mesh dimension."""
    mesh = tuple(int(n) for n in rng.choice([1, 2, 3, 5], size=rng.integers(1, 4)))
    shape = tuple(int(n) for n in rng.integers(1, 14, size=rng.integers(1, 4)))
    kinds = [Replicate, Shard, strided]
    placements = []
    for _ in mesh:
        kind, dim = kinds[rng.integers(3)], int(rng.integers(len(shape)))
        made = kind() if kind is Replicate else kind(dim, *([2] if kind is strided else []))
        placements.append(made)
    return mesh, shape, placements


@pytest.mark.parametrize("seed", range(120))
def test_parts_cover_a_shard_once_with_the_counters_of_the_whole(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh_shape, shape, placements = random_case(rng)
    size = int(np.prod(mesh_shape))
    with simulated(int(rng.integers(size)), size):
        mesh = init_device_mesh("cpu", mesh_shape)
        tensor = sharded(torch.full(shape, -1, dtype=torch.int32), mesh, placements)
        wanted = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)[indices(tensor)]
        written = 0
        for place, grid in parts(tensor, Grid.whole(shape, Layout())):
            place += torch.from_numpy(counters(grid) + 1)
            written += place.numel()
        assert written == wanted.size
        assert np.array_equal(tensor.to_local().numpy(), wanted)


@pytest.mark.parametrize("length", [1, 2, 7, 12, 50])
def test_the_shards_of_a_mesh_are_the_whole(length: int) -> None:
    """The rule that the tests compare with: every coordinate once."""
    found = []
    for rank in range(6):
        with simulated(rank, 6):
            mesh = init_device_mesh("cpu", (3, 2))
            found += held(length, 0, mesh, (strided(0, 2), Shard(0))).tolist()
    assert sorted(found) == list(range(length))


def test_the_usual_shard_is_one_part() -> None:
    with simulated(1, 4):
        mesh = init_device_mesh("cpu", (2, 2))
        for placements in ([Shard(0), Shard(0)], [strided(0, 2), Shard(0)], [Shard(1), Shard(0)]):
            tensor = sharded(torch.empty(12, 12), mesh, placements)
            assert len([*parts(tensor, Grid.whole((12, 12), Layout()))]) == 1


def test_a_rank_outside_the_mesh_has_nothing_to_fill() -> None:
    with simulated(3, 4):
        mesh = torch.distributed.device_mesh.DeviceMesh("cpu", [0, 1])
        tensor = sharded(torch.zeros(6, 2), mesh, [Shard(0)])
        assert portinit_torch.normal_(tensor, key=KEY) is tensor
        assert not [*parts(tensor, Grid.whole((6, 2), Layout()))]


def test_equal_meshes_of_other_ranks_are_not_mixed_up() -> None:
    for rank in (0, 1, 0):
        with simulated(rank, 2):
            tensor = sharded(torch.empty(6), init_device_mesh("cpu", (2,)), [Shard(0)])
            ((_, grid),) = parts(tensor, Grid.whole((6,), Layout()))
            assert grid.axes[0].indices == range(3 * rank, 3 * rank + 3)


# What is written there

MATRIX: dict[str, Any] = {
    "uniform_": (-1.0, 2.0),
    "normal_": (1.0, 2.0),
    "trunc_normal_": (),
    "xavier_uniform_": (),
    "xavier_normal_": (),
    "kaiming_uniform_": (),
    "kaiming_normal_": (0, "fan_out", "relu"),
    "orthogonal_": (2.0,),
    "sparse_": (0.4,),
    "eye_": (),
    "constant_": (3.0,),
    "ones_": (),
    "zeros_": (),
}
WITHOUT_KEY = {"eye_", "constant_", "ones_", "zeros_", "dirac_"}


@pytest.fixture(params=["arrays", "fused"])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays filled with compiled loops too."""
    if request.param == "fused":
        pytest.importorskip("numba")
        filling._kernel()
    monkeypatch.setattr(filling, "_ready", request.param == "fused")


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("name", MATRIX)
def test_functions_of_matrices(name: str, rank: int) -> None:
    function = getattr(portinit_torch, name)
    options = {} if name in WITHOUT_KEY else {"key": KEY}
    for dtype in (torch.float32, torch.bfloat16):
        whole = function(torch.full((13, 7), 77.0, dtype=dtype), *MATRIX[name], **options)
        with simulated(rank, 4):
            mesh = init_device_mesh("cpu", (2, 2))
            for placements in itertools.product(PLACEMENTS, repeat=2):
                shard = sharded(torch.full((13, 7), 77.0, dtype=dtype), mesh, placements)
                assert function(shard, *MATRIX[name], **options) is shard
                wanted = sharded(whole, mesh, placements).to_local()
                assert torch.equal(shard.to_local(), wanted), placements


COMBINED = {
    "blocks": pi.blocks((pi.normal(), pi.sparse(0.5), pi.orthogonal()), sizes=(5, 3, 5)),
    "blocks of columns": pi.blocks((pi.normal(), pi.kaiming_uniform()), sizes=(3, 4), axis=1),
    "where": pi.where((slice(2, 7), 3), pi.ones, pi.normal()),
    "scaled": pi.scaled(pi.sparse(0.2), 3.0),
    "assign": pi.assign(np.arange(91.0).reshape(13, 7)),
    "like_jax": pi.like_jax(pi.glorot_normal()),
    "like_jax of a matrix": pi.like_jax(pi.orthogonal()),
}


@pytest.mark.parametrize("rank", [0, 3])
@pytest.mark.parametrize("initializer", COMBINED.values(), ids=COMBINED)
def test_other_initializers(initializer: pi.Initializer, rank: int) -> None:
    whole = portinit_torch.fill_(torch.empty(13, 7), initializer, key=KEY)
    with simulated(rank, 4):
        mesh = init_device_mesh("cpu", (2, 2))
        for placements in itertools.product(PLACEMENTS, repeat=2):
            shard = sharded(torch.empty(13, 7), mesh, placements)
            portinit_torch.fill_(shard, initializer, key=KEY)
            assert torch.equal(shard.to_local(), sharded(whole, mesh, placements).to_local())


CONVOLUTIONS = {
    "dirac": pi.dirac(2),
    "delta_orthogonal": pi.delta_orthogonal(),
    "orthogonal": pi.orthogonal(),
    "kaiming_normal": pi.kaiming_normal(),
}


@pytest.mark.parametrize("layout", ["torch", "flax"])
@pytest.mark.parametrize("initializer", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions_along_any_axis_and_in_any_layout(
    initializer: pi.Initializer, layout: str
) -> None:
    shape = (6, 4, 3, 2) if layout == "torch" else (3, 2, 4, 6)
    whole = portinit_torch.fill_(torch.empty(shape), initializer, key=KEY, layout=layout)
    for rank in range(2):
        with simulated(rank, 2):
            mesh = init_device_mesh("cpu", (2,))
            for axis in range(4):
                shard = sharded(torch.empty(shape), mesh, [Shard(axis)])
                portinit_torch.fill_(shard, initializer, key=KEY, layout=layout)
                wanted = sharded(whole, mesh, [Shard(axis)]).to_local()
                assert torch.equal(shard.to_local(), wanted)


def test_parameters_and_their_autograd() -> None:
    with simulated(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        weight = torch.nn.Parameter(sharded(torch.zeros(5, 3), mesh, [Shard(0)]))
        version = weight.to_local()._version
        portinit_torch.normal_(weight, key=KEY)
        assert weight.requires_grad
        assert weight.is_leaf
        assert weight.to_local()._version > version
        assert weight.to_local().all()


def test_the_key_comes_from_the_generator_of_each_rank() -> None:
    whole = portinit_torch.normal_(torch.empty(5, 3), generator=torch.Generator().manual_seed(4))
    shards = []
    for rank in range(2):
        with simulated(rank, 2):
            shard = sharded(torch.empty(5, 3), init_device_mesh("cpu", (2,)), [Shard(0)])
            portinit_torch.normal_(shard, generator=torch.Generator().manual_seed(4))
            shards.append(shard.to_local())
    assert torch.equal(torch.cat(shards), whole)


@pytest.mark.parametrize("name", [*MATRIX])
def test_nothing_is_sent(name: str) -> None:
    options = {} if name in WITHOUT_KEY else {"key": KEY}
    with simulated(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        tensor = sharded(torch.empty(13, 7), mesh, [Shard(0)])
        with CommDebugMode() as calls:
            getattr(portinit_torch, name)(tensor, *MATRIX[name], **options)
        assert calls.get_total_counts() == 0
        with CommDebugMode() as calls:  # it counts where something is sent
            tensor.full_tensor()
        assert calls.get_total_counts() == 1


@pytest.mark.parametrize("name", [*MATRIX, "dirac_"])
def test_partial_values_are_refused_and_left_alone(name: str) -> None:
    shape = (4, 3, 2) if name == "dirac_" else (4, 3)
    options = {} if name in WITHOUT_KEY else {"key": KEY}
    with simulated(0, 2):
        mesh = init_device_mesh("cpu", (2,))
        tensor = DTensor.from_local(torch.full(shape, 77.0), mesh, [Partial()])
        with pytest.raises((ValueError, RuntimeError), match=r"Shard or Replicate.*got P\(sum\)"):
            getattr(portinit_torch, name)(tensor, *MATRIX.get(name, ()), **options)
        assert (tensor.to_local() == 77).all()


# Sizes that no rank could hold


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = function(*args, **(kwargs or {}))
        for item in torch.utils._pytree.tree_leaves(out):
            if isinstance(item, torch.Tensor):
                self.largest = max(self.largest, item.untyped_storage().nbytes())
        return out


def huge(shape: tuple[int, ...], rank: int, ranks: int, initializer: pi.Initializer) -> Any:
    """A rank's shard along axis 0, and the bytes of the largest tensor and of NumPy's arrays."""
    with simulated(rank, ranks):
        rows = -(-shape[0] // ranks)
        mesh = init_device_mesh("cpu", (ranks,))
        tensor = DTensor.from_local(
            torch.empty(rows, *shape[1:]), mesh, [Shard(0)], run_check=False
        )
        tracemalloc.start()
        try:
            with Sizes() as sizes:
                portinit_torch.fill_(tensor, initializer, key=KEY)
            return tensor.to_local(), sizes.largest, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("rank", [0, 1024, 4095])
def test_64_gib_over_4096_ranks(rank: int, reference: Any) -> None:
    shape = (1 << 20, 1 << 14)  # 2**34 elements
    shard, largest, arrays = huge(shape, rank, 4096, pi.normal())
    assert shard.shape == (256, 1 << 14)
    assert largest <= shard.numel() * 4
    assert arrays < shard.numel() * 4
    first = rank * shard.numel()
    for place in (0, 1, 12_345, shard.numel() - 1):
        word = reference.word(3, first + place)
        assert shard.view(-1)[place].item() == float(reference.normal(word, "float32", 0.0, 1.0))


def test_sparse_needs_no_whole_matrix() -> None:
    shape = (1 << 14, 1 << 9)  # 32 MiB
    huge(shape, 0, 4096, pi.sparse(0.5))  # whatever is loaded once
    shard, largest, arrays = huge(shape, 4095, 4096, pi.sparse(0.5))
    assert 0.4 < (shard == 0).float().mean() < 0.6
    assert largest < 1 << 22
    assert arrays < 1 << 22
