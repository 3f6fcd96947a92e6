"""Checkpoints: the values, the files, and what is there after a kill, on a full disk, of two runs.

The references are the frameworks' own models, filled by the adapters, and the libraries that read
such checkpoints: safetensors, huggingface_hub, transformers, Orbax.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import flax.linen
import huggingface_hub
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
import safetensors
import safetensors.torch
import torch
import transformers
from flax import nnx
from orbax.checkpoint.experimental import v1 as orbax_v1
from torch import nn

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, Rule, checkpoints, recipes
from portinit.checkpoints import CheckpointError, write
from portinit.checkpoints import files as checkpoint_files
from portinit.checkpoints.shards import groups_of
from portinit.checkpoints.write import parse_size

KEY = portinit.key(3)
INDEX = "model.safetensors.index.json"


class Net(nn.Module):
    """Layers of every layout, tied weights, and buffers that are kept and that are not."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16, padding_idx=0, dtype=dtype)
        self.conv = nn.Conv2d(3, 5, 3, dtype=dtype)
        self.up = nn.ConvTranspose1d(4, 6, 3, dtype=dtype)
        self.bn = nn.BatchNorm2d(5, dtype=dtype)
        self.lstm = nn.LSTM(4, 8, dtype=dtype)
        self.head = nn.Linear(16, 40, bias=False, dtype=dtype)
        self.head.weight = self.embed.weight
        self.register_buffer("mask", torch.ones(4), persistent=False)


def small(layers: int = 10, shape: tuple[int, ...] = (50, 50)) -> Recipe:
    """A recipe of some matrices of 10 kB each."""
    normal = portinit.normal(std=0.02)
    return Recipe([Rule(f"layers.{i}.weight", normal, shape=shape) for i in range(layers)])


SMALL = {"shard_size": 20_000}  # two matrices a file
FILES = [f"model-0000{i}-of-00005.safetensors" for i in range(1, 6)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """The files of ``small()``, written without interruption."""
    write(small(), KEY, tmp_path / "whole", **SMALL)
    return contents(tmp_path / "whole")


# Values


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_a_module_s_file_is_what_initialize_gives(tmp_path, dtype, bits):
    native = getattr(torch, dtype)
    with torch.device("meta"):
        module = Net(native)
    write(portinit_torch.checkpoint_tensors(module, recipes.torch_defaults()), KEY, tmp_path)
    read = safetensors.torch.load_file(tmp_path / "model.safetensors")
    filled = portinit_torch.initialize(Net(native), recipes.torch_defaults(), KEY).state_dict()
    assert {*filled} - {*read} == {"head.weight"}  # tied: once, by its first name
    assert {name: bits(t) for name, t in read.items()} == {
        name: bits(filled[name]) for name in read
    }
    assert read["bn.num_batches_tracked"].dtype == torch.int64


def test_a_shared_parameter_is_tied_again_by_safetensors(tmp_path):
    write(portinit_torch.checkpoint_tensors(Net(), recipes.torch_defaults()), KEY, tmp_path)
    module = Net()
    safetensors.torch.load_model(module, tmp_path / "model.safetensors")  # strict
    filled = portinit_torch.initialize(Net(), recipes.torch_defaults(), KEY)
    assert torch.equal(module.head.weight, filled.embed.weight)


def test_a_traced_recipe_needs_no_model_and_keeps_its_dtypes(tmp_path, bits):
    recipe = portinit_torch.trace(lambda: nn.Sequential(nn.Linear(5, 4).half(), nn.BatchNorm1d(4)))
    write(Recipe.from_json(recipe.to_json()), KEY, tmp_path)
    read = safetensors.torch.load_file(tmp_path / "model.safetensors")
    module = nn.Sequential(nn.Linear(5, 4).half(), nn.BatchNorm1d(4))
    filled = portinit_torch.initialize(module, recipe, KEY).state_dict()
    assert {n: bits(t) for n, t in read.items()} == {n: bits(t) for n, t in filled.items()}


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_a_replay_is_written_shard_by_shard(tmp_path, dtype, bits):
    def build() -> nn.Module:
        return nn.Sequential(*(nn.Linear(30, 30) for _ in range(4)))

    recipe = portinit_torch.trace(build)
    replay = checkpoints.Replay(recipe, 7)
    write(recipe, replay, tmp_path, dtype=dtype, shard_size=5000)
    torch.manual_seed(7)
    state = build().to(getattr(torch, dtype or "float32")).state_dict()
    (tmp_path / "model-00002-of-00004.safetensors").unlink(missing_ok=True)
    write(recipe, checkpoints.Replay(recipe, 7), tmp_path, dtype=dtype, shard_size=5000)
    read = {}
    for path in tmp_path.glob("*.safetensors"):
        read |= safetensors.torch.load_file(path)
    assert {n: bits(t) for n, t in read.items()} == {n: bits(t) for n, t in state.items()}


class Linen(flax.linen.Module):
    """Kernels of two layouts and batch statistics."""

    @flax.linen.compact
    def __call__(self, x):
        x = flax.linen.Conv(4, (3, 3), name="conv", param_dtype=jnp.bfloat16)(x)
        x = flax.linen.BatchNorm(use_running_average=True, name="bn")(x)
        return flax.linen.Dense(5, name="fc")(x.mean((1, 2)))


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.fc = nnx.Linear(4, 5, param_dtype=jnp.bfloat16, rngs=rngs)


LINEN = jax.eval_shape(Linen().init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


def flat(tree: object) -> dict[str, object]:
    """Arrays by path, without linen's collection."""
    found = {}
    for keys, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = [str(k.key) for k in keys if hasattr(k, "key")]
        found["/".join(p for p in parts if p not in ("params", "batch_stats"))] = leaf
    return found


def test_a_linen_model_s_file_has_its_paths_and_layouts(tmp_path, bits):
    write(portinit_flax.checkpoint_tensors(LINEN, recipes.flax_defaults()), KEY, tmp_path)
    with safetensors.safe_open(tmp_path / "model.safetensors", "flax") as file:
        read = {name: bits(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    filled = portinit_flax.initialize(LINEN, recipes.flax_defaults(), KEY)
    assert read == {path: bits(value) for path, value in flat(filled).items()}


class Stack(flax.linen.Module):
    """Three layers in one array, along its second axis."""

    @flax.linen.compact
    def __call__(self, x):
        scan = flax.linen.scan(
            lambda layer, x, _: (layer(x), None),
            variable_axes={"params": 1}, split_rngs={"params": True}, length=3,
        )  # fmt: skip
        return scan(flax.linen.Dense(4, name="layers"), x, None)[0]


def test_stacked_layers_are_one_tensor(tmp_path, bits):
    tree = jax.eval_shape(Stack().init, jax.random.key(0), jnp.zeros((2, 4)))
    recipe = Recipe([("*.1.*", portinit.uniform()), ("*", portinit.normal())])
    write(portinit_flax.checkpoint_tensors(tree, recipe, stacked={"layers": 1}), KEY, tmp_path)
    with safetensors.safe_open(tmp_path / "model.safetensors", "flax") as file:
        read = {name: bits(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    filled = portinit_flax.initialize(tree, recipe, KEY, stacked={"layers": 1})
    assert read == {path: bits(value) for path, value in flat(filled).items()}
    assert filled["params"]["layers"]["kernel"].shape == (4, 3, 4)


def test_an_nnx_model_s_checkpoint_is_restored_by_orbax(tmp_path, bits):
    model = nnx.eval_shape(lambda: Nnx(nnx.Rngs(0)))
    entries = portinit_flax.checkpoint_tensors(model, recipes.flax_defaults())
    write(entries, KEY, tmp_path / "out", file_format="orbax")
    read = flat(orbax_v1.load(tmp_path / "out"))
    filled = portinit_flax.initialize(Nnx(nnx.Rngs(0)), recipes.flax_defaults(), KEY)
    wanted = flat(nnx.to_pure_dict(nnx.state(filled)))
    assert {p: bits(v) for p, v in read.items()} == {p: bits(v) for p, v in wanted.items()}


# Files as the ecosystem reads them


def test_the_index_is_the_hub_s(tmp_path):
    sizes = [30, 5, 5, 90, 1, 39, 40, 1, 60]
    recipe = Recipe([Rule(f"w{i}", portinit.ones, shape=(n,)) for i, n in enumerate(sizes)])
    write(recipe, KEY, tmp_path, shard_size=160)  # forty floats
    reference = huggingface_hub.split_torch_state_dict_into_shards(
        {f"w{i}": torch.ones(n) for i, n in enumerate(sizes)}, max_shard_size=160
    )
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"] == {"total_size": sum(sizes) * 4}
    # The hub goes on filling the file before a tensor that is too large; here order is kept.
    assert {*index["weight_map"]} == {*reference.tensor_to_filename}
    assert {*index["weight_map"].values()} == {p.name for p in tmp_path.glob("*.safetensors")}
    large = [n for n in index["weight_map"].values() if n == index["weight_map"]["w3"]]
    assert len(large) == 1


def test_groups_keep_the_order_and_the_limit():
    entries = checkpoints.checkpoint_tensors(small(7))
    groups = groups_of(entries, 25_000)
    assert [entry for group in groups for entry in group] == entries
    assert [len(group) for group in groups] == [2, 2, 2, 1]


def test_transformers_loads_the_folder(tmp_path):
    config = transformers.GPT2Config(n_layer=2, n_embd=32, n_head=2, vocab_size=90, n_positions=16)
    recipe = recipes.gpt2(layers=2)
    with torch.device("meta"):
        entries = portinit_torch.checkpoint_tensors(transformers.GPT2LMHeadModel(config), recipe)
    write(entries, KEY, tmp_path, shard_size="40KB")
    config.save_pretrained(tmp_path)
    assert (tmp_path / INDEX).exists()
    model, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    filled = portinit_torch.initialize(transformers.GPT2LMHeadModel(config), recipe, KEY)
    read = model.state_dict()
    assert all(torch.equal(read[name], value) for name, value in filled.state_dict().items())


def test_a_model_of_one_file_has_no_index(tmp_path):
    write(small(2), KEY, tmp_path)
    assert [*contents(tmp_path)] == ["model.safetensors"]
    with safetensors.safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata()["format"] == "pt"


def test_files_have_an_ordinary_mode(tmp_path):
    write(small(), KEY, tmp_path, **SMALL)
    (tmp_path / "other").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


# Interrupted runs

KILLED = """
import os, signal, sys
import numpy as np, portinit
from portinit import Recipe, Rule, checkpoints
from portinit.checkpoints import folder
normal = portinit.normal(std=0.02)
recipe = Recipe([Rule(f"layers.{i}.weight", normal, shape=(50, 50)) for i in range(10)])

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def computing(done, total):
    if done == 30_000:
        die()

real = folder.save_file
def saving(tensors, path, metadata):
    real(tensors, path, metadata)
    if "00002" in path.name:
        os.truncate(path, 9_000)
        (path.parent / ".tmpOfTheLibrary").write_bytes(b"half")
        die()

when, where = sys.argv[1:]
if when == "saving":
    folder.save_file = saving
if when == "publishing":
    publish = folder.publish
    folder.publish = lambda old, new: die() if "00002" in new.name else publish(old, new)
checkpoints.write(recipe, portinit.key(3), where, shard_size=20_000,
                  file_format=os.environ.get("FORMAT", "safetensors"),
                  progress=computing if when == "computing" else None)
"""


def killed(when: str, folder: Path, **environment: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLED, when, str(folder)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(
        command, env=environment, timeout=60, check=False, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("when", ["computing", "saving", "publishing"])
def test_a_killed_run_leaves_whole_files_and_is_taken_up(tmp_path, whole, when):
    folder = tmp_path / "killed"
    killed(when, folder)
    left = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert left == {FILES[0]: whole[FILES[0]]}
    first = (folder / FILES[0]).stat()
    write(small(), KEY, folder, **SMALL)
    assert contents(folder) == whole
    again = (folder / FILES[0]).stat()
    assert (again.st_ino, again.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_a_finished_checkpoint_is_left_as_it_is(tmp_path, whole):
    before = {path: path.stat() for path in (tmp_path / "whole").iterdir()}
    reports: list[tuple[int, int]] = []
    write(small(), KEY, tmp_path / "whole", **SMALL, progress=lambda *now: reports.append(now))
    assert {path: path.stat() for path in (tmp_path / "whole").iterdir()} == before
    assert reports == [(100_000, 100_000)]


def test_a_file_that_is_gone_takes_the_index_with_it_until_it_is_back(tmp_path, whole):
    folder = tmp_path / "whole"
    (folder / FILES[2]).unlink()
    seen: list[bool] = []
    write(small(), KEY, folder, **SMALL, progress=lambda *_: seen.append((folder / INDEX).exists()))
    assert not any(seen)
    assert contents(folder) == whole


def other_recipe() -> Recipe:
    return small(10, (25, 100))


@pytest.mark.parametrize(
    ("recipe", "seed", "options"),
    [
        (small(), 4, SMALL),
        (other_recipe(), 3, SMALL),
        (small(), 3, {**SMALL, "dtype": "bfloat16"}),
        (small(), 3, {"shard_size": 30_000}),
        (small(), 3, {}),
    ],
    ids=["seed", "shapes", "dtype", "shard size", "one file"],
)
def test_another_checkpoint_is_refused_and_replaced_where_asked(
    tmp_path, whole, recipe, seed, options
):
    folder = tmp_path / "whole"
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="must hold no other checkpoint"):
        write(recipe, portinit.key(seed), folder, **options)
    assert contents(folder) == {**whole, "config.json": b"{}"}
    write(recipe, portinit.key(seed), folder, **options, overwrite=True)
    write(recipe, portinit.key(seed), tmp_path / "new", **options)
    assert contents(folder) == {**contents(tmp_path / "new"), "config.json": b"{}"}


def test_a_cut_off_file_is_not_taken_for_whole(tmp_path, whole):
    folder = tmp_path / "whole"
    os.truncate(folder / FILES[1], 9_000)
    with pytest.raises(CheckpointError, match=FILES[1]):
        write(small(), KEY, folder, **SMALL)
    write(small(), KEY, folder, **SMALL, overwrite=True)
    assert contents(folder) == whole


# Several runs at once


def test_a_second_run_writes_what_the_first_is_not_at(tmp_path, whole):
    folder = tmp_path / "shared"
    folder.mkdir()
    with checkpoint_files.claimed(folder, FILES[0], wait=False) as work:
        assert work is not None
        runner = threading.Thread(target=write, args=(small(), KEY, folder), kwargs=SMALL)
        runner.start()
        deadline = threading.Event()
        for _ in range(600):
            if all((folder / name).exists() for name in FILES[1:]):
                break
            deadline.wait(0.05)
        runner.join(0.3)
        assert runner.is_alive()  # it waits for the file that is claimed
        assert {path.name for path in folder.iterdir() if path.is_file()} == {*FILES[1:]}
    runner.join(30)
    assert not runner.is_alive()
    assert contents(folder) == whole


def test_two_processes_give_what_one_gives(tmp_path, whole):
    folder = tmp_path / "shared"
    command = [sys.executable, "-c", KILLED, "never", str(folder)]
    runs = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        errors = [run.communicate(timeout=60)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [0, 0], errors
    assert contents(folder) == whole


# Full disks


def test_too_little_space_is_seen_before_anything_is_written(tmp_path, monkeypatch):
    free = shutil.disk_usage(tmp_path)._replace(free=99_000)
    monkeypatch.setattr(checkpoint_files.shutil, "disk_usage", lambda _: free)
    with pytest.raises(CheckpointError, match=r"0\.1 MB are needed, 0\.1 MB are free") as caught:
        write(small(), KEY, tmp_path, **SMALL)
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.iterdir()]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_is_one_line(small_disk, monkeypatch):
    plenty = shutil.disk_usage(small_disk)._replace(free=10**12)
    monkeypatch.setattr(checkpoint_files.shutil, "disk_usage", lambda _: plenty)
    folder = small_disk / "out"
    recipe = small(10, (100, 1000))  # 4 MB
    with pytest.raises(CheckpointError, match="00003-of-00005") as caught:
        write(recipe, KEY, folder, shard_size="0.8MB")
    assert "No space left" in str(caught.value)
    assert "\n" not in str(caught.value)
    left = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert sorted(path.name for path in left) == FILES[:2]


# Orbax


def test_both_of_orbax_s_faces_restore_what_was_written(tmp_path, bits):
    with torch.device("meta"):
        entries = portinit_torch.checkpoint_tensors(Net(torch.bfloat16), recipes.torch_defaults())
    write(entries, KEY, tmp_path / "out", file_format="orbax", shard_size="1KB")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    filled = portinit_torch.initialize(Net(torch.bfloat16), recipes.torch_defaults(), KEY)
    wanted = {name: bits(value) for name, value in filled.state_dict().items()}
    del wanted["head.weight"]
    with ocp.StandardCheckpointer() as checkpointer:
        old = checkpointer.restore(tmp_path / "out" / "state")
    for tree in (orbax_v1.load(tmp_path / "out"), old):
        assert {p.replace("/", "."): bits(v) for p, v in flat(tree).items()} == wanted


def test_a_killed_session_is_taken_up(tmp_path, bits):
    out = tmp_path / "out"
    killed("computing", out, FORMAT="orbax")
    assert not out.exists()
    reports: list[int] = []
    options = {**SMALL, "file_format": "orbax"}
    write(small(), KEY, out, **options, progress=lambda done, _: reports.append(done))
    assert reports[:2] == [20_000, 30_000]  # a group was there
    read = flat(orbax_v1.load(out))
    filled = {e.path: e.draw(KEY) for e in checkpoints.checkpoint_tensors(small())}
    assert {p: bits(v) for p, v in read.items()} == {
        "/".join(p): bits(v) for p, v in filled.items()
    }
    write(small(), KEY, out, **options, progress=lambda done, _: reports.append(done))
    assert reports[-1] == 100_000
    with pytest.raises(CheckpointError, match="must be new or empty"):
        write(small(), portinit.key(4), out, **options)
    write(small(), portinit.key(4), out, **options, overwrite=True)
    again = flat(orbax_v1.load(out))["layers/0/weight"]
    assert bits(again) == bits(checkpoints.checkpoint_tensors(small())[0].draw(portinit.key(4)))


def test_a_group_that_orbax_has_is_not_saved_twice(tmp_path):
    out = tmp_path / "out"
    options = {**SMALL, "file_format": "orbax"}
    killed("computing", out, FORMAT="orbax")
    journal = tmp_path / ".out.portinit" / "journal.json"
    saved = json.loads(journal.read_text())
    assert saved["done"] == 1
    journal.write_text(json.dumps({**saved, "done": 0}))  # killed before the note
    write(small(), KEY, out, **options)
    assert len(flat(orbax_v1.load(out))) == 10


def test_another_s_session_and_a_busy_one_are_refused(tmp_path):
    out = tmp_path / "out"
    killed("computing", out, FORMAT="orbax")
    with pytest.raises(CheckpointError, match="part of this checkpoint, got another's"):
        write(small(), portinit.key(4), out, **SMALL, file_format="orbax")
    with (tmp_path / ".out.portinit" / "lock").open("wb") as lock:
        assert checkpoint_files.locked(lock)
        with pytest.raises(CheckpointError, match="another run"):
            write(small(), KEY, out, **SMALL, file_format="orbax")


def test_orbax_s_folder_is_its_own(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(CheckpointError, match="must be new or empty"):
        write(small(), KEY, tmp_path, file_format="orbax", overwrite=True)
    assert (tmp_path / "notes.txt").exists()


def test_without_orbax_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "orbax.checkpoint.experimental.v1", None)
    with pytest.raises(CheckpointError, match=r"portinit\[orbax\]"):
        write(small(), KEY, tmp_path / "out", file_format="orbax")


# Refusals


def test_a_recipe_of_patterns_is_refused(tmp_path):
    with pytest.raises(portinit.RecipeError, match=r"bound to a model; .* do not fit"):
        write(recipes.gpt2(layers=2), KEY, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_drawn_or_stored_is_refused_before_anything_is_written(tmp_path):
    out = tmp_path / "out"
    bad = Recipe([Rule("w", portinit.orthogonal(), shape=(3,))])
    with pytest.raises(portinit.RecipeError, match="w "):
        write(bad, KEY, out)
    with pytest.raises(TypeError, match="dtype must be one of"):
        write(small(), KEY, out, dtype="int8")
    with pytest.raises(ValueError, match="file_format must be one of safetensors, orbax"):
        write(small(), KEY, out, file_format="pickle")
    entry = checkpoints.checkpoint_tensors(small())[0]
    with pytest.raises(portinit.RecipeError, match="named 2 times"):
        write([entry, entry], KEY, out)
    assert not out.exists()
    with pytest.raises(CheckpointError, match="safetensors takes no complex128"):
        write(small(), KEY, out, dtype="complex128")
    assert not out.exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(CheckpointError, match="must be a folder"):
        write(small(), KEY, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "count"),
    [("500MB", 5 * 10**8), ("2 GiB", 2**31), ("1.5kb", 1500), ("7", 7), (8, 8), ("1_000B", 1000)],
)
def test_sizes(text, count):
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "MB", "5 potatoes", "-1", "0", "1e9"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="a size must be"):
        parse_size(text)


# Memory

MEASURED = """
import sys
import portinit
from portinit import Recipe, Rule, checkpoints

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

def write(name, layers, rows):
    normal = portinit.normal(std=0.02)
    recipe = Recipe([Rule(f"w{i}", normal, shape=(rows, 1024)) for i in range(layers)])
    checkpoints.write(recipe, portinit.key(0), f"{sys.argv[1]}/{name}", shard_size="32MiB",
                      dtype=sys.argv[2], file_format=sys.argv[3])

import portinit.backends.kernels.filling
portinit.backends.kernels.filling.WORTH_LOADING = 1  # numba's 130 MiB are there for either
write("small", 2, 512)
before = peak()
write("large", 64, 1024)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("dtype", "form"),
    [("float32", "safetensors"), ("bfloat16", "safetensors"), ("float32", "orbax")],
)
def test_memory_grows_by_less_than_two_files(tmp_path, dtype, form):
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, str(tmp_path), dtype, form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 2 * 32 * 2**20  # of 256 MiB, or 128 in bfloat16


def billion() -> Recipe:
    """1.24e9 parameters in the shapes of Llama 3.2 1B, its embedding 263e6 of them."""
    normal = portinit.normal(std=0.02)
    shapes = {
        "self_attn.q_proj": (2048, 2048),
        "self_attn.k_proj": (512, 2048),
        "self_attn.v_proj": (512, 2048),
        "self_attn.o_proj": (2048, 2048),
        "mlp.gate_proj": (8192, 2048),
        "mlp.up_proj": (8192, 2048),
        "mlp.down_proj": (2048, 8192),
    }
    rules = [Rule("model.embed_tokens.weight", normal, shape=(128256, 2048))]
    for i in range(16):
        layer = f"model.layers.{i}."
        rules += [Rule(f"{layer}{n}.weight", normal, shape=s) for n, s in shapes.items()]
        norms = ("input_layernorm", "post_attention_layernorm")
        rules += [Rule(f"{layer}{n}.weight", portinit.ones, shape=(2048,)) for n in norms]
    return Recipe([*rules, Rule("model.norm.weight", portinit.ones, shape=(2048,))])


COMMAND = """
import sys
from portinit.cli.commands import portinit
try:
    portinit(sys.argv[1:])
finally:
    lines = open("/proc/self/status").read().splitlines()
    print("peak", *[1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM")])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("form", ["safetensors", "orbax"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_billion_parameters_take_less_than_a_gibibyte_and_a_half(tmp_path, dtype, form):
    (tmp_path / "recipe.json").write_text(billion().to_json())
    arguments = ["init", str(tmp_path / "recipe.json"), "--out", str(tmp_path / "out")]
    arguments += ["--dtype", dtype, "--format", form]
    command = [sys.executable, "-W", "ignore", "-c", COMMAND, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) < 1.5 * 2**30
    name = "model.layers.15.mlp.down_proj.weight"
    if form == "safetensors":
        file = json.loads((tmp_path / "out" / INDEX).read_text())["weight_map"][name]
        with safetensors.safe_open(tmp_path / "out" / file, "torch") as tensors:
            read = tensors.get_tensor(name)
        wanted = torch.empty(2048, 8192, dtype=getattr(torch, dtype))
        key = portinit.key(0).fold_in(name)
        assert torch.equal(read, portinit_torch.normal_(wanted, std=0.02, key=key))
