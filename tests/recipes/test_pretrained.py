"""Starts from weight files: real ones of each library, partial ones, misfits and hostile ones."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.flax
import safetensors.torch
import torch
from flax import nnx
from flax.traverse_util import flatten_dict

import portinit
import portinit_flax
import portinit_torch
from portinit import Recipe, RecipeError, recipes

KEY = portinit.key(4)


class Net(torch.nn.Module):
    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, (3, 2))
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, classes)


class Twin(nn.Module):
    classes: int = 3

    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True, name="norm")(nn.Conv(8, (3, 2), name="conv")(x))
        return nn.Dense(self.classes, name="head")(x.mean((1, 2)))


def twin(classes: int = 3) -> Any:
    return jax.eval_shape(Twin(classes).init, jax.random.key(0), jnp.zeros((1, 6, 6, 3)))


def trained() -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = Net()
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
    return net


NET = trained()
STATE = {name: tensor.detach().numpy() for name, tensor in NET.state_dict().items()}


def save(folder: Path, kind: str) -> tuple[str, dict[str, Any]]:
    """The net in a file of a library's own making, and how it is to be read."""
    state, file = NET.state_dict(), str(folder / kind)
    if kind == "w.safetensors":
        safetensors.torch.save_file(state, file)
    elif kind == "w.npz":
        np.savez(file, **STATE)
    elif kind == "compressed.npz":
        np.savez_compressed(file, **STATE)
    elif kind == "w.pt":
        torch.save(state, file)
    elif kind == "old.bin":
        torch.save(state, file, _use_new_zipfile_serialization=False)
    elif kind == "checkpoint.pth":
        torch.save({"epoch": 3, "trainer": {"model.ema": state}}, file)
        return file, {"section": "trainer.model.ema"}
    elif kind == "w.safetensors.index.json":
        for shard, names in (
            ("a.safetensors", list(state)[:3]),
            ("b.safetensors", list(state)[3:]),
        ):
            safetensors.torch.save_file({n: state[n] for n in names}, folder / shard)
        shards = {n: "ab"[list(state).index(n) >= 3] + ".safetensors" for n in state}
        Path(file).write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return file, {}


KINDS = ["w.safetensors", "w.npz", "compressed.npz", "w.pt", "old.bin", "checkpoint.pth"]
KINDS += ["w.safetensors.index.json"]


def assert_is_net(model: torch.nn.Module, but: tuple[str, ...] = ()) -> None:
    for name, tensor in model.state_dict().items():
        if name not in but:
            np.testing.assert_array_equal(tensor.numpy(), STATE[name], err_msg=name)


def assert_is_twin(variables: Any, but: tuple[str, ...] = ()) -> None:
    params, statistics = variables["params"], variables["batch_stats"]["norm"]
    pairs = {
        "conv.weight": np.asarray(params["conv"]["kernel"]).transpose(3, 2, 0, 1),
        "conv.bias": params["conv"]["bias"],
        "norm.weight": params["norm"]["scale"],
        "norm.running_var": statistics["var"],
        "head.weight": np.asarray(params["head"]["kernel"]).T,
    }
    for name, array in pairs.items():
        if name not in but:
            np.testing.assert_array_equal(np.asarray(array), STATE[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_both_frameworks_start_from_a_file(kind, tmp_path):
    file, how = save(tmp_path, kind)
    recipe = portinit.pretrained(file, **how)
    assert set(recipe.names) == set(STATE)
    assert_is_net(portinit_torch.initialize(Net(), recipe, KEY))
    assert_is_twin(portinit_flax.initialize(twin(), recipe, KEY))
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert_is_net(portinit_torch.initialize(Net(), again, KEY))


@pytest.mark.parametrize("kind", ["w.safetensors", "w.npz", "w.pt"])
def test_a_part_from_the_file_and_the_rest_by_recipe(kind, tmp_path):
    file, how = save(tmp_path, kind)
    recipe = portinit.pretrained(file, without="head.*", **how) + recipes.torch_defaults()
    head = ("head.weight", "head.bias")
    model = portinit_torch.initialize(Net(5), recipe, KEY)
    assert_is_net(model, head)
    plain = portinit_torch.initialize(Net(5), recipes.torch_defaults(), KEY)
    assert (model.head.weight == plain.head.weight).all()
    filled = portinit_flax.initialize(twin(5), recipe, KEY)
    assert_is_twin(filled, head)
    kernel = np.asarray(filled["params"]["head"]["kernel"])
    np.testing.assert_array_equal(kernel.T, model.head.weight.detach().numpy())
    bound = portinit_torch.bind(Net(5), recipe)
    assert_is_twin(portinit_flax.initialize(twin(5), bound, KEY), head)


def test_names_are_stripped_prefixed_chosen_and_renamed(tmp_path):
    file = str(tmp_path / "w.npz")
    weight, bias = np.ones((2, 3)), np.ones(2)
    np.savez(file, **{"module.fc.weight": weight, "module.fc.bias": bias, "other.weight": weight})

    def names(**options: Any) -> tuple[str, ...]:
        return portinit.pretrained(file, **options).names

    assert names(strip="module.") == ("fc.weight", "fc.bias")
    assert names(strip="module.", prefix="body.") == ("body.fc.weight", "body.fc.bias")
    assert names(only="*.bias") == ("module.fc.bias",)
    assert names(only=("other.*", "*.bias")) == ("module.fc.bias", "other.weight")
    assert names(without=["module.*"]) == ("other.weight",)
    renamed = {"other.weight": "a.weight", "module.fc.bias": None}
    assert names(names=renamed) == ("module.fc.weight", "a.weight")
    assert names(names=lambda name: name[7:] if "module" in name else None)[0] == "fc.weight"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "only": ({"only": "head.*"}, r"only='head\.\*': matches no tensor of the file"),
    "without": ({"without": ["a", "fc.bias"]}, "without='a': matches no tensor"),
    "names": ({"names": {"fc": "a"}}, "fc: in names, but not in the file"),
    "twice": ({"names": {"fc.bias": "fc.weight"}}, "fc.weight: 2 tensors of the file have"),
    "layouts": ({"layouts": {"up*": "flax"}}, r"layouts='up\*'"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_what_fits_nothing_is_listed(options, message, tmp_path):
    np.savez(tmp_path / "w.npz", **{"fc.weight": np.ones((2, 3)), "fc.bias": np.ones(2)})
    with pytest.raises(RecipeError, match=message):
        portinit.pretrained(tmp_path / "w.npz", **options)


# Misfits: all of them, and nothing written


def state_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()}


def test_every_shape_that_differs_is_listed_before_anything_is_written(tmp_path):
    file, _ = save(tmp_path, "w.safetensors")
    recipe = portinit.pretrained(file) + recipes.torch_defaults()
    model = Net(5)
    before = state_of(model)
    misfits = (
        "head.weight: the recipe has (3, 8), got (5, 8)",
        "head.bias: the recipe has (3,), got (5,)",
    )
    with pytest.raises(RecipeError) as error:
        portinit_torch.initialize(model, recipe, KEY)
    assert error.value.misfits == misfits
    with pytest.raises(RecipeError) as error:
        portinit_flax.initialize(twin(5), recipe, KEY)
    assert set(error.value.misfits) == set(misfits)
    for name, array in state_of(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_tensors_that_nothing_takes_are_listed(tmp_path):
    file, _ = save(tmp_path, "w.pt")
    lost = portinit.pretrained(file, prefix="body.") + recipes.torch_defaults()
    model = Net()
    before = state_of(model)
    for fill in (
        lambda: portinit_torch.initialize(model, lost, KEY),
        lambda: portinit_torch.bind(model, lost),
        lambda: portinit_flax.initialize(twin(), lost, KEY),
    ):
        with pytest.raises(RecipeError, match=r"body\.conv\.weight: no such parameter") as error:
            fill()
        assert len(error.value.misfits) == 6  # and not the statistics
    for name, array in state_of(model).items():
        np.testing.assert_array_equal(array, before[name])
    lax = portinit.pretrained(file, prefix="body.", strict=False) + recipes.torch_defaults()
    portinit_torch.initialize(model, lax, KEY)
    portinit_flax.initialize(twin(), lax, KEY)


def test_both_names_of_a_tied_tensor_are_known(tmp_path):
    def tied() -> torch.nn.Module:
        model = torch.nn.Module()
        model.add_module("embed", torch.nn.Embedding(7, 4))
        model.add_module("out", torch.nn.Linear(4, 7, bias=False))
        model.out.weight = model.embed.weight
        return model

    source = tied()
    torch.save(source.state_dict(), tmp_path / "w.pt")
    recipe = portinit.pretrained(tmp_path / "w.pt") + recipes.torch_defaults()
    model = portinit_torch.initialize(tied(), recipe, KEY)
    assert (model.out.weight == source.out.weight).all()


def test_files_that_are_damaged_or_gone_leave_the_model_alone(tmp_path):
    for kind in ("w.npz", "w.safetensors", "w.pt"):
        file, _ = save(tmp_path, kind)
        recipe = portinit.pretrained(file) + recipes.torch_defaults()
        model, whole = Net(), Path(file).read_bytes()
        before = state_of(model)
        for damaged in (whole[:-200], None):
            Path(file).unlink() if damaged is None else Path(file).write_bytes(damaged)
            with pytest.raises((ValueError, OSError)):
                portinit_torch.initialize(model, recipe, KEY)
        for name, array in state_of(model).items():
            np.testing.assert_array_equal(array, before[name])


def test_a_changed_byte_of_an_npz_is_seen(tmp_path):
    file, _ = save(tmp_path, "w.npz")
    recipe = portinit.pretrained(file)
    whole = bytearray(Path(file).read_bytes())
    place = whole.index(STATE["head.weight"].tobytes())
    whole[place + 5] ^= 1
    Path(file).write_bytes(whole)
    model = Net()
    before = state_of(model)
    with pytest.raises(RecipeError, match=r"head\.weight.*is damaged.*CRC"):
        portinit_torch.initialize(model, recipe, KEY)
    np.testing.assert_array_equal(model.conv.weight.detach(), before["conv.weight"])


# Hostile files


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_no_pickle_is_executed(tmp_path):
    trap = Hostile(tmp_path / "owned")
    torch.save({"a": trap, "b": torch.ones(2)}, tmp_path / "a.pt")
    torch.save({"a": trap}, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "c.bin").write_bytes(pickle.dumps({"a": trap}, protocol=2))
    np.savez(tmp_path / "d.npz", a=np.array([trap], dtype=object))
    torch.save(torch.nn.Linear(2, 2), tmp_path / "e.pt")  # a whole module
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(ValueError, match=r"nothing to execute|a pickle"):
            portinit.pretrained(file)
        with pytest.raises(ValueError, match=r"nothing to execute|a pickle"):
            portinit.from_file(file, "a")(KEY, (1,))
    assert not (tmp_path / "owned").exists()
    pickle.loads(pickle.dumps(trap))  # the trap works
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("shard", ["../w.safetensors", "/etc/passwd", "x/w.npz", "w.index.json"])
def test_an_index_stays_in_its_folder(shard, tmp_path):
    index = tmp_path / "w.index.json"
    index.write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ValueError, match="shards must be weight files beside their index"):
        portinit.pretrained(index)


def test_files_of_another_kind_are_refused(tmp_path):
    texts = {"a.txt": b"no weights", "b.json": b"[]", "c.zip": b"PK\x03\x04 and no more", "d": b""}
    for name, content in texts.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"must be safetensors|weight_map|is damaged"):
            portinit.pretrained(tmp_path / name)
    np.savez(tmp_path / "w.npz", a=np.array(["text"]))
    with pytest.raises(ValueError, match="a must be an array of numbers, got dtype <U4"):
        portinit.pretrained(tmp_path / "w.npz")
    with pytest.raises(ValueError, match="has no sections"):
        portinit.pretrained(tmp_path / "w.npz", section="model")
    torch.save({"model": {"a": torch.ones(1)}, "lr": 0.1}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="tensors at its top; sections that hold some: model"):
        portinit.pretrained(tmp_path / "w.pt")
    with pytest.raises(ValueError, match="layout must be 'torch' or 'flax'"):
        portinit.pretrained(tmp_path / "w.pt", layout="rows")
    (tmp_path / "i.json").write_text(json.dumps({"weight_map": {"b": "w.npz"}}))
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    with pytest.raises(ValueError, match=r"shards must hold every tensor it lists; got no \['b'\]"):
        portinit.pretrained(tmp_path / "i.json")


# From Flax


def test_a_file_saved_from_flax_serves_both(tmp_path):
    filled = portinit_flax.initialize(twin(), recipes.vit(std=0.3), KEY)
    flat = {"/".join(path): np.asarray(a) for path, a in flatten_dict(filled).items()}
    np.savez(tmp_path / "w.npz", **flat)
    recipe = portinit.pretrained(tmp_path / "w.npz", layout="flax")
    model = portinit_torch.initialize(Net(), recipe + recipes.torch_defaults(), KEY)
    kernel = flat["params/conv/kernel"]
    np.testing.assert_array_equal(model.conv.weight.detach(), kernel.transpose(3, 2, 0, 1))
    again = portinit_flax.initialize(twin(), recipe, portinit.key(9))
    jax.tree.map(np.testing.assert_array_equal, again, filled)
    safetensors.flax.save_file(
        {k: jnp.asarray(v) for k, v in flat.items()}, tmp_path / "w.safetensors"
    )
    other = portinit.pretrained(tmp_path / "w.safetensors", layout="flax")
    jax.tree.map(
        np.testing.assert_array_equal, portinit_flax.initialize(twin(), other, KEY), filled
    )


def test_attention_and_transposed_convolutions_of_flax(tmp_path):
    rng = np.random.default_rng(0)
    flat = {
        "attn/query/kernel": rng.normal(size=(12, 2, 6)),  # (embed, heads, size)
        "attn/query/bias": rng.normal(size=(2, 6)),
        "attn/out/kernel": rng.normal(size=(2, 6, 12)),
        "up/kernel": rng.normal(size=(3, 3, 4, 5)),  # (H, W, in, out), space reversed
    }
    np.savez(tmp_path / "w.npz", **flat)
    layouts = {"up.weight": "flax_conv_transpose"}
    recipe = portinit.pretrained(tmp_path / "w.npz", layout="flax", layouts=layouts)
    values = {rule.name: rule.initializer.array() for rule in recipe.rules}
    query = flat["attn/query/kernel"].reshape(12, 12).T
    np.testing.assert_array_equal(values["attn.query.weight"], query)
    np.testing.assert_array_equal(values["attn.query.bias"], flat["attn/query/bias"].ravel())
    np.testing.assert_array_equal(
        values["attn.out.weight"], flat["attn/out/kernel"].reshape(12, 12).T
    )
    up = flat["up/kernel"][::-1, ::-1].transpose(2, 3, 0, 1)
    np.testing.assert_array_equal(values["up.weight"], up)
    shapes = {rule.name: rule.shape for rule in recipe.rules}
    assert shapes == {name: array.shape for name, array in values.items()}


# Values of another model, dtypes, and rows


def test_values_of_other_models_are_assigned():
    layer, dense = torch.nn.Linear(3, 2), nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    ours = portinit.assign(layer.weight)(KEY, (2, 3), layout="torch")
    np.testing.assert_array_equal(ours, layer.weight.detach().numpy())
    theirs = portinit.assign(dense.kernel, "flax")(KEY, (2, 3), layout="torch")
    np.testing.assert_array_equal(theirs, np.asarray(dense.kernel[...]).T)
    half = torch.tensor([1.0, 3.140625], dtype=torch.bfloat16)
    for values in (half, jnp.asarray([1.0, 3.140625], jnp.bfloat16)):
        assert portinit.assign(values)(KEY, (2,)).tolist() == [1.0, 3.140625]
    assert portinit.assign(torch.tensor(2.5))(KEY, ()).shape == ()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_keep_their_values(dtype, tmp_path):
    values = torch.linspace(-3, 3, 12, dtype=dtype).reshape(3, 4)
    torch.save({"w": values}, tmp_path / "w.pt")
    safetensors.torch.save_file({"w": values}, tmp_path / "w.safetensors")
    for file in ("w.pt", "w.safetensors"):
        initializer = portinit.from_file(tmp_path / file, "w")
        target = torch.empty(3, 4, dtype=dtype)
        assert portinit_torch.fill_(target, initializer, key=KEY).equal(values)
        kernel = initializer(jax.random.key(0), (4, 3), jnp.float32)
        np.testing.assert_array_equal(np.asarray(kernel).T, values.float().numpy())


def test_a_larger_head_keeps_the_files_rows(tmp_path):
    file, _ = save(tmp_path, "w.safetensors")
    rows = [
        (name, portinit.blocks((portinit.from_file(file, name), rest), sizes=(3, 2)))
        for name, rest in (
            ("head.weight", portinit.normal(std=0.02)),
            ("head.bias", portinit.zeros),
        )
    ]
    recipe = Recipe(rows) + portinit.pretrained(file)
    model = portinit_torch.initialize(Net(5), recipe, KEY)
    np.testing.assert_array_equal(model.head.weight.detach()[:3], STATE["head.weight"])
    assert 0 < model.head.weight[3:].abs().max() < 0.1
    filled = portinit_flax.initialize(twin(5), recipe, KEY)
    kernel = np.asarray(filled["params"]["head"]["kernel"])
    np.testing.assert_array_equal(kernel.T, model.head.weight.detach().numpy())
