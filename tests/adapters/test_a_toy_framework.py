"""An adapter of a library that nobody has, written by docs/adding-a-framework.md to be copied.

The library is ``tests/support/toy/toynn.py`` and the adapter ``portinit_toynn`` beside it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file
from tests.adapters.test_conformance import NAMED
from tests.support.frameworks.framework import DTYPES, KEY, NET, Framework
from tests.support.frameworks.questions import answers, digest, drawn, draws

import portinit
import portinit_torch
from portinit.arrays.dtypes import numpy_dtype
from portinit.cli.commands import portinit as command
from portinit.probes import frameworks
from portinit.testing import prove_match

TOY = Path(__file__).parents[1] / "support" / "toy"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library and its adapter are installed, and named where the page says."""
    monkeypatch.syspath_prepend(TOY)
    monkeypatch.setitem(frameworks.ADAPTERS, "toynn", "portinit_toynn")
    monkeypatch.setitem(frameworks.CALLED, "toynn", "toynn")


class Toy(Framework):
    """The row of the conformance test."""

    name = "toynn"
    in_place = True

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        return initializer(key, shape, dtype, layout=layout)

    def model(self, dtype: str) -> Any:
        return net(numpy_dtype(dtype))

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_toynn

        return portinit_toynn.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        return {
            "emb.weight": model.emb.rows,
            "conv.weight": model.conv.w.transpose(3, 2, 0, 1),
            "conv.bias": model.conv.b,
            "norm.weight": model.norm.gain,
            "norm.bias": model.norm.shift,
            "fc.weight": model.fc.w.T,
            "fc.bias": model.fc.b,
        }


def net(dtype: Any = "float32") -> Any:
    import toynn

    class Net(toynn.Module):
        def __init__(self) -> None:
            self.emb = toynn.Table(11, 6, dtype)
            self.conv = toynn.Conv(6, 4, (3, 2), dtype)
            self.norm = toynn.Norm(4, dtype)
            self.fc = toynn.Dense(4, 8, dtype)

        def __call__(self, tokens: Any) -> Any:
            return self.fc(self.norm(self.conv(self.emb(tokens))))

    return Net()


class TorchNet(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb, self.conv = torch.nn.Embedding(11, 6), torch.nn.Conv2d(6, 4, (3, 2))
        self.norm, self.fc = torch.nn.LayerNorm(4), torch.nn.Linear(4, 8)

    def forward(self, tokens: Any) -> Any:
        x = self.conv(self.emb(tokens).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.fc(self.norm(x))


TOKENS = np.arange(50).reshape(2, 5, 5) % 11


def make_torch() -> Any:
    return TorchNet()


def example_input() -> Any:
    return TOKENS


def test_it_answers_as_every_framework_does() -> None:
    said = answers(Toy())
    for dtype in DTYPES:
        for rule in NET.rules:
            key = KEY.fold_in(rule.key_name)
            values = rule.initializer(key, rule.shape or (), dtype, layout=rule.torch_layout)
            assert said[f"model {rule.name}, {dtype}"] == digest(values), rule.name
        assert said[f"model is filled in place, {dtype}"] == "True"
    for misfit, (kind, word) in NAMED.items():
        assert said[f"model, {misfit}"].startswith(f"{kind}: ")
        assert word in said[f"model, {misfit}"]
        assert said[f"model after {misfit}"] == "True"
    question, draw = next(iter(draws(("float32",)).items()))
    assert said[f"draw {question}"] == drawn(Toy(), draw)


def test_its_outputs_prove_the_layouts() -> None:
    proof = prove_match(TorchNet(), net(), TOKENS)
    assert proof.is_complete
    assert proof.matching["conv/w"][0] == "conv.weight"


def test_the_layer_that_differs_is_named() -> None:
    made = net()
    conv = type(made.conv)
    made.conv.__class__ = type(
        "Conv", (conv,), {"__call__": lambda self, x: 2 * conv.__call__(self, x)}
    )
    proof = prove_match(TorchNet(), made, TOKENS)
    assert not proof.agrees
    assert str(proof.where).startswith("conv (conv in toynn), a Conv2d, is the first layer")


def test_the_commands_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner, toys = CliRunner(env={"COLUMNS": "300"}), f"{__name__}:net"
    done = runner.invoke(
        command, ["port", f"{__name__}:make_torch", toys, "--out", "w.safetensors"]
    )
    assert done.exit_code == 0, done.output
    assert "7 of 7 parameters identical in PyTorch and toynn; outputs within" in done.output
    traced = portinit_torch.trace(TorchNet)
    ours = portinit_torch.initialize(TorchNet(), traced, portinit.key(0))
    written = load_file("w.safetensors")["fc/w"]
    assert (written == ours.fc.weight.detach().numpy().T).all()
    done = runner.invoke(command, ["show", toys])
    assert "conv/w" in done.output, done.output
    done = runner.invoke(command, ["init", "torch_defaults", "--model", toys, "--out", "out"])
    assert done.exit_code == 0, done.output
    (file,) = Path("out").glob("*.safetensors")
    assert {*load_file(file)} == {"emb/rows", "conv/w", "conv/b", "norm/gain", "norm/shift",
                                  "fc/w", "fc/b"}  # fmt: skip
