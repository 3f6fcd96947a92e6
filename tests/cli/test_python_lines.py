"""The Python that a passing ``port`` prints runs as printed, and gives the same weights."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import portinit
from portinit.cli import models
from portinit.cli.commands import portinit as command_line

MODELS = {
    "net_torch.py": """
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(6, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.gru(x)[0])


class Pooled(Net):
    def __init__(self):
        super().__init__()
        self.pooler = nn.Linear(3, 3)


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


class Untraced(Net):
    def __init__(self):
        super().__init__()
        if self.first.weight.mean() > 5:
            raise ValueError("unlikely")


def example_input():
    return np.random.default_rng(0).standard_normal((2, 5, 6)).astype(np.float32)


def images():
    return np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
""",
    "net_linen.py": """
import jax.numpy as jnp
from flax import linen
from net_torch import example_input


class Net(linen.Module):
    names: tuple = ("first", "second")

    @linen.compact
    def __call__(self, x, deterministic):
        x = jnp.tanh(linen.Dense(8, name=self.names[0])(x))
        return linen.Dense(8, name=self.names[1])(linen.Dropout(0.1)(x, deterministic))


def make_others():
    return Net(("zeta", "alpha"))


class Tagger(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(4)(linen.RNN(linen.GRUCell(8))(x))


class Images(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Conv(4, (3, 3), name="conv")(x).transpose(0, 3, 1, 2)


def by_name():
    return {"x": example_input(), "deterministic": True}
""",
    "net_nnx.py": """
import jax.numpy as jnp
from flax import nnx
from net_torch import example_input


class Net(nnx.Module):
    def __init__(self):
        self.first = nnx.Linear(6, 8, rngs=nnx.Rngs(0))
        self.second = nnx.Linear(8, 8, rngs=nnx.Rngs(0))

    def __call__(self, x):
        return self.second(jnp.tanh(self.first(x)))
""",
    "net_keras.py": """
import keras
from net_torch import example_input


def make():
    first = keras.layers.Dense(8, activation="tanh", name="first")
    return keras.Sequential([first, keras.layers.Dense(8, name="second")])
""",
    "net_equinox.py": """
import equinox as eqx
import jax
import jax.numpy as jnp
from net_torch import example_input


class Net(eqx.Module):
    first: eqx.nn.Linear
    second: eqx.nn.Linear

    def __call__(self, x):
        return jax.vmap(self.second)(jnp.tanh(jax.vmap(self.first)(x)))


def make():
    key = jax.random.key(0)
    return Net(eqx.nn.Linear(6, 8, key=key), eqx.nn.Linear(8, 8, key=key))
""",
    "net_haiku.py": """
import haiku as hk
import jax.numpy as jnp
from net_torch import example_input


def forward(x, is_training):
    x = jnp.tanh(hk.Linear(8, name="first")(x))
    return hk.Linear(8, name="second")(x)


def make():
    return hk.transform(forward)
""",
    "net_mlx.py": """
import mlx.core as mx
import mlx.nn as nn
from net_torch import example_input


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 8)

    def __call__(self, x):
        return self.second(mx.tanh(self.first(x)))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(6, 8), nn.Linear(8, 4)

    def __call__(self, x):
        return self.head(self.gru(x))
""",
    "names.json": '{"zeta": "first", "alpha": "second"}',
    "more.json": '{"names": {"zeta": "first", "alpha": "second"}, "ignore": ["pooler.*"]}',
}

PORTS = {
    "linen": "net_torch.py:Net net_linen.py:Net",
    "linen, by name": "net_torch.py:Net net_linen.py:Net --twin-input net_linen.py:by_name",
    "nnx": "net_torch.py:Net net_nnx.py:Net --seed 7",
    "a module": "net_torch:Net net_nnx:Net",
    "a GRU": "net_torch.py:Tagger net_linen.py:Tagger",
    "a GRU, replayed": "net_torch.py:Tagger net_linen.py:Tagger --replay 3",
    "replay": "net_torch.py:Net net_linen.py:Net --replay 3",
    "names": "net_torch.py:Net net_linen.py:make_others --names names.json",
    "names told by use": "net_torch.py:Net net_linen.py:make_others",
    "more than names": "net_torch.py:Pooled net_linen.py:make_others --names more.json",
    "ignore": "net_torch.py:Pooled net_nnx.py:Net --ignore pooler.*",
    "a recipe": "net_torch.py:Net net_nnx.py:Net --recipe recipe.json",
    "a ready recipe": "net_torch.py:Net net_nnx.py:Net --recipe vit_hf:std=0.5",
    "untraced": "net_torch.py:Untraced net_nnx.py:Net",
    "channels last": "net_torch.py:Images net_linen.py:Images --channels-last "
    "--torch-input net_torch.py:images",
    "Keras": "net_torch.py:Net net_keras.py:make",
    "Keras, replayed": "net_torch.py:Net net_keras.py:make --replay 3",
    "Equinox": "net_torch.py:Net net_equinox.py:make",
    "Haiku": "net_torch.py:Net net_haiku.py:make",
    "MLX": "net_torch.py:Net net_mlx.py:Net",
    "a GRU in MLX": "net_torch.py:Tagger net_mlx.py:Tagger",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, text in MODELS.items():
        (tmp_path / name).write_text(text)
    recipe = portinit.Recipe([("*.weight", portinit.normal(std=0.5)), ("*", portinit.zeros)])
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for name in [*sys.modules]:
        if name.startswith("net_"):
            del sys.modules[name]


def printed(options: str) -> str:
    done = CliRunner(env={"COLUMNS": "80"}).invoke(command_line, ["port", *options.split()])
    assert done.exit_code == 0, done.output
    lines = done.output.partition("in Python:\n")[2].splitlines()
    return "\n".join(line[2:] for line in lines)


@pytest.mark.filterwarnings("ignore:.* matched by a guess")
@pytest.mark.parametrize("kind", PORTS)
def test_the_printed_lines_run(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = []

    def port(*arguments: Any) -> Any:
        ports.append(own(*arguments))
        return ports[-1]

    own = models._port
    monkeypatch.setattr(models, "_port", port)
    code = printed(PORTS[kind])
    forget()
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(code, found)
    pair = ports[0].pair
    expected = {path: np.asarray(x) for path, x in pair.twin.paths(pair.filled).items()}
    assert expected
    made = pair.twin.paths(found["model"])
    arrays = {path: np.asarray(x) for path, x in made.items()}
    assert arrays.keys() == expected.keys()
    for path, values in arrays.items():
        np.testing.assert_array_equal(values, expected[path])


def test_factories_elsewhere_are_found(folder: Path) -> None:
    (folder / "inner").mkdir()
    for name in ("net_torch.py", "net_nnx.py"):
        (folder / name).rename(folder / "inner" / name)
    code = printed("inner/net_torch.py:Net inner/net_nnx.py:Net")
    assert "sys.path.insert(0, 'inner')" in code
    (folder / "printed.py").write_text(code)
    subprocess.run([sys.executable, "-W", "ignore", "printed.py"], check=True, cwd=folder)
