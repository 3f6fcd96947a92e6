"""Tables read off conversions to Keras, Equinox, Haiku and MLX: filling by one is converting."""

from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import keras
import mlx.core as mx
import mlx.nn
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from mlx.utils import tree_flatten

import portinit
import portinit_equinox
import portinit_haiku
import portinit_keras
import portinit_mlx
import portinit_torch
from portinit.cli.commands import portinit as command
from portinit.testing.twins import converted_arrays

KEY = portinit.key(2)
X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


class Model(torch.nn.Module):
    """A projection that the other models have in two, a norm, and a parameter that they lack."""

    def __init__(self) -> None:
        super().__init__()
        self.qk, self.head = torch.nn.Linear(4, 8), torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(4)
        self.unused = torch.nn.Parameter(torch.zeros(5))

    def forward(self, x: Any) -> Any:
        q, k = self.qk(x).chunk(2, -1)
        return self.head(self.norm(q * k))


def parts(state: Any) -> dict[str, Any]:
    """The other models' arrays, in PyTorch's axes."""
    x = {name: np.asarray(one.detach().numpy()) for name, one in state.items()}
    halves = {"a": slice(4), "b": slice(4, 8)}
    return {
        **{f"{one}.weight": x["qk.weight"][half] for one, half in halves.items()},
        **{f"{one}.bias": x["qk.bias"][half] for one, half in halves.items()},
        "out.weight": x["head.weight"],
        "out.bias": x["head.bias"],
        "bn.weight": x["norm.weight"],
        "bn.bias": x["norm.bias"],
        "bn.mean": x["norm.running_mean"],
        "bn.var": x["norm.running_var"],
    }


class EquinoxModel(eqx.Module):
    a: eqx.nn.Linear
    b: eqx.nn.Linear
    bn: eqx.nn.BatchNorm
    out: eqx.nn.Linear

    def __init__(self, key: Any) -> None:
        self.a, self.b = eqx.nn.Linear(4, 4, key=key), eqx.nn.Linear(4, 4, key=key)
        self.bn, self.out = eqx.nn.BatchNorm(4, "batch", mode="ema"), eqx.nn.Linear(4, 3, key=key)


def equinox_model() -> Any:
    return eqx.nn.make_with_state(EquinoxModel)(jax.random.key(0))


def to_equinox(state: Any) -> Any:
    x = {name: jnp.asarray(one) for name, one in parts(state).items()}
    model, held = equinox_model()
    for name in ("a.weight", "a.bias", "b.weight", "b.bias", "bn.weight", "bn.bias", "out.weight",
                 "out.bias"):  # fmt: skip
        layer, word = name.split(".")
        model = eqx.tree_at(lambda m, a=layer, b=word: getattr(getattr(m, a), b), model, x[name])
    return model, held.set(model.bn.ema_state_index, (x["bn.mean"], x["bn.var"]))


def haiku_net(x: Any, is_training: bool) -> Any:
    class Body(hk.Module):
        def __init__(self) -> None:
            super().__init__("body")
            self.a, self.b = hk.Linear(4, name="a"), hk.Linear(4, name="b")

        def __call__(self, x: Any) -> Any:
            return self.a(x) * self.b(x)

    x = hk.BatchNorm(True, True, 0.9, name="bn")(Body()(x), is_training)
    return hk.Linear(3, name="out")(x)


def make_haiku() -> Any:
    return hk.transform_with_state(haiku_net)


def make_torch() -> Any:
    return Model()


def example_input() -> Any:
    return X


def to_haiku(state: Any) -> Any:
    x = parts(state)
    params = {
        "body/~/a": {"w": x["a.weight"].T, "b": x["a.bias"]},
        "body/~/b": {"w": x["b.weight"].T, "b": x["b.bias"]},
        "bn": {"scale": x["bn.weight"][None], "offset": x["bn.bias"][None]},
        "out": {"w": x["out.weight"].T, "b": x["out.bias"]},
    }
    emas = (("mean_ema", "bn.mean"), ("var_ema", "bn.var"))
    return params, {f"bn/~/{ema}": {"average": x[name][None]} for ema, name in emas}


class MlxModel(mlx.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.layers = [mlx.nn.Linear(4, 4), mlx.nn.Linear(4, 4)]
        self.bn, self.out = mlx.nn.BatchNorm(4), mlx.nn.Linear(4, 3)


def to_mlx_names(state: Any) -> Any:
    renamed = {"a": "layers.0", "b": "layers.1", "bn.mean": "bn.running_mean"}
    renamed["bn.var"] = "bn.running_var"
    found = {}
    for name, values in parts(state).items():
        layer, _, word = name.partition(".")
        found[renamed.get(name, f"{renamed.get(layer, layer)}.{word}")] = mx.array(values)
    return found


def to_mlx(state: Any) -> Any:
    return MlxModel().load_weights([*to_mlx_names(state).items()])


def keras_model() -> Any:
    inputs = keras.Input((4,))
    a, b = keras.layers.Dense(4, name="a")(inputs), keras.layers.Dense(4, name="b")(inputs)
    x = keras.layers.BatchNormalization(name="bn")(keras.layers.Multiply()([a, b]))
    return keras.Model(inputs, keras.layers.Dense(3, name="out")(x))


def to_keras(state: Any) -> Any:
    x, model = parts(state), keras_model()
    for name in ("a", "b", "out"):
        model.get_layer(name).set_weights([x[f"{name}.weight"].T, x[f"{name}.bias"]])
    model.get_layer("bn").set_weights([x[f"bn.{w}"] for w in ("weight", "bias", "mean", "var")])
    return model


def haiku_shapes() -> Any:
    init = partial(make_haiku().init, is_training=True)
    return jax.eval_shape(init, jax.random.key(0), X)


CASES: dict[str, Any] = {
    "equinox": (portinit_equinox, to_equinox, equinox_model),
    "haiku": (portinit_haiku, to_haiku, haiku_shapes),
    "mlx": (portinit_mlx, to_mlx, MlxModel),
    "mlx by names": (portinit_mlx, to_mlx_names, MlxModel),
    "keras": (portinit_keras, to_keras, keras_model),
}


def recipe() -> portinit.Recipe:
    """Of values that differ in each array, the running statistics among them."""
    normals = portinit.Recipe([("*running_var", portinit.uniform(1, 2)), ("*", portinit.normal())])
    counters = portinit.Recipe([("*num_batches_tracked", portinit.zeros)])
    return portinit_torch.bind(Model(), counters + normals)


@pytest.mark.parametrize("case", CASES)
def test_filling_by_the_table_is_converting(case: str) -> None:
    adapter, convert, make = CASES[case]
    names = adapter.from_conversion(convert, Model())
    assert names.unused == ("unused",)
    assert not names.unexplained
    ours = portinit_torch.initialize(Model(), recipe(), KEY)
    arrays_of = __import__(f"{adapter.__name__}.conversion", fromlist=["arrays_of"]).arrays_of
    expected = arrays_of(convert(ours.state_dict()))
    filled = arrays_of(adapter.initialize(make(), recipe(), KEY, names))
    assert len(expected) == 10
    assert expected.keys() == filled.keys()
    for path, values in expected.items():
        assert np.asarray(values).tobytes() == np.asarray(filled[path]).tobytes(), path


@pytest.mark.parametrize("convert", [to_equinox, to_mlx, to_keras])
def test_what_a_conversion_returns_tells_its_framework(convert: Any) -> None:
    adapter = CASES[convert.__name__.removeprefix("to_")][0]
    names = adapter.from_conversion(convert, Model())
    assert converted_arrays(convert(Model().state_dict())).keys() == {*names}


def test_no_arrays_are_refused() -> None:
    with pytest.raises(portinit.RecipeError, match="got int without arrays"):
        portinit_mlx.from_conversion(lambda state: 3, Model())
    assert dict(tree_flatten(MlxModel().parameters()))  # the model is usable


def test_the_command_reads_a_conversion_and_port_takes_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here, runner = __name__, CliRunner(env={"COLUMNS": "300"})
    pair = [f"{here}:make_torch", f"{here}:make_haiku"]
    read = ["--from-conversion", f"{here}:to_haiku", "--write", "names.json"]
    done = runner.invoke(command, ["match", pair[0], *read])
    assert done.exit_code == 0, done.output
    text = Path("names.json").read_text("utf-8")
    assert '"body/a/w"' in text
    Path("names.json").write_text(text.replace("body/a", "body/~/a"), encoding="utf-8")
    done = runner.invoke(command, ["port", *pair, "--names", "names.json"])
    assert done.exit_code == 0, done.output
    assert "identical in PyTorch and Haiku" in done.output
