"""Ports from PyTorch to Keras, as the command runs them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from keras import layers
from safetensors.numpy import load_file
from tests.support.bits import same_bits, to_numpy
from torch import nn

import portinit
from portinit.cli import porting
from portinit.cli.commands import portinit as command

X = np.random.default_rng(0).standard_normal((2, 5, 4)).astype(np.float32)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.rnn(x)[0]))


class KerasTagger(keras.Model):
    def __init__(self, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.rnn = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
        self.norm = layers.LayerNormalization(epsilon=epsilon)
        self.head = layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.head(self.norm(self.rnn(x)))


def port(**options: Any) -> porting.Port:
    task = porting.Task(Tagger, options.pop("twin", KerasTagger), torch_input=X, twin_input=X)
    return porting.port(replace(task, **options))


@pytest.mark.parametrize("options", [{"seed": 3}, {"replay": 3}], ids=str)
def test_a_keras_model_is_ported_and_proved(options: dict[str, int]) -> None:
    done = port(**options)
    assert done.same
    assert done.proved
    assert done.forward is not None
    assert done.forward < 1e-6
    assert "Keras's recurrent cells have one bias" in " ".join(done.notes)
    torchs, kerass = done.pair.torch_model, done.pair.filled
    assert same_bits(kerass.head.kernel.value, to_numpy(torchs.head.weight).T)
    if "replay" in options:
        torch.manual_seed(3)
        assert same_bits(torchs.head.weight, Tagger().head.weight)
    else:
        expected = portinit.layers.linear_weight()(
            portinit.key(3).fold_in("head.weight"), (2, 6), layout="torch"
        )
        assert same_bits(torchs.head.weight, expected)


def test_a_layer_that_computes_something_else_is_named() -> None:
    done = port(twin=lambda: KerasTagger(epsilon=0.5))
    assert not done.same
    said = " ".join(done.problems)
    assert "norm (norm in " in said
    assert "is the first layer that differs" in said


def test_a_model_without_an_input_needs_to_be_built() -> None:
    with pytest.raises(portinit.RecipeError, match="is not built, so that it has no variables"):
        port(twin_input=None)


FILES = {
    "net_torch.py": """
import numpy
from torch import nn
def make(): return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
def example_input(): return numpy.ones((2, 4), numpy.float32)
""",
    "net_keras.py": """
import keras
import numpy
def make(): return keras.Sequential([keras.layers.Dense(3, "tanh"), keras.layers.Dense(2)])
def example_input(): return numpy.ones((2, 4), numpy.float32)
""",
}


def test_the_command_ports_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    arguments = ["port", "net_torch.py:make", "net_keras.py:make"]
    result = CliRunner().invoke(command, [*arguments, "--out", "weights.safetensors"])
    assert result.exit_code == 0, result.output
    assert "4 of 4 parameters identical in PyTorch and Keras" in result.output
    written = load_file(tmp_path / "weights.safetensors")
    assert sorted(written) == ["dense/bias", "dense/kernel", "dense_1/bias", "dense_1/kernel"]
    assert "portinit_keras.initialize(model" in CliRunner().invoke(command, arguments).output
