"""Twins as users write them: five models in linen and in nnx, ported by one command each."""

import json
from pathlib import Path

import click.testing
import pytest

from portinit.cli.commands import portinit as command

TWINS = Path(__file__).parent / "twins"

STACKED = {
    f"members/{layer}/{leaf}": f"experts.*.{layer}.{name}"
    for layer in ("up", "down")
    for leaf, name in (("kernel", "weight"), ("bias", "bias"))
}
"""The names of experts that Flax calls members: a ``*`` is an expert's number."""

ONE_BIAS = "Flax's recurrent cells have one bias: bias_ih + bias_hh is bias_ih on both sides"

CASES = {
    "unet_linen": (40, (), ("Flax ran with train=False", "channels compared first with last")),
    "unet_nnx": (40, ("--channels-last",), ("(2, 2, 8, 8) in PyTorch and (2, 8, 8, 2) in Flax",)),
    "vit_linen": (40, (), ("Flax ran with deterministic=True", "logits was compared")),
    "vit_nnx": (40, ("--channels-last",), ()),
    "tagger_linen": (27, (), (ONE_BIAS,)),
    "tagger_nnx": (9, (), (ONE_BIAS,)),
    "experts_linen": (13, (), ()),
    "experts_nnx": (13, ("--names", "names.json", "--stacked", "members=0"), ()),
    "decoder_linen": (55, (), ("Flax ran with train=False",)),
    "decoder_nnx": (55, (), ()),
}


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


@pytest.mark.parametrize("name", CASES)
def test_a_twin_ports_by_one_command(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("names.json").write_text(json.dumps(STACKED))
    count, options, words = CASES[name]
    model = name.partition("_")[0]
    pair = (f"{TWINS / model}_torch.py:make", f"{TWINS / name}.py:make")
    result = click.testing.CliRunner().invoke(command, ["port", *pair, *options])
    output = " ".join(result.output.split())
    assert result.exit_code == 0, result.output
    assert (
        f"✓ {count} of {count} parameters identical in PyTorch and Flax; outputs within" in output
    )
    for word in words:
        assert word in output
