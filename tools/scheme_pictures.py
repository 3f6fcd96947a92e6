"""The pictures of docs/schemes.md that are no single initializer's: recipes, and what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tools.drawing import BLUE, ORANGE, curves, histogram, plain, side_by_side

import portinit
from portinit import Recipe, recipes


def std(recipe: Recipe, name: str) -> float:
    """The standard deviation that a recipe gives a weight of 1024 x 1024."""
    rule = recipe.find(portinit.Parameter(name, (1024, 1024), "linear"))
    assert rule is not None
    law = rule.initializer.distribution_of((1024, 1024), layout="torch")
    assert law is not None
    return law.std


DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)
CURVES: dict[str, Callable[[], Figure]] = {
    "gpt2": lambda: curves(
        {
            "others": lambda n: std(recipes.gpt2(int(n)), "h.0.c_fc.weight"),
            "c_proj": lambda n: std(recipes.gpt2(int(n)), "h.0.c_proj.weight"),
        },
        DEPTHS,
        "layers",
    ),
    "gpt_neox": lambda: curves(
        {
            "others": lambda n: std(recipes.gpt_neox(int(n), 1024), "0.fc1.weight"),
            "c_proj": lambda n: std(recipes.gpt_neox(int(n), 1024), "0.c_proj.weight"),
        },
        DEPTHS,
        "layers",
    ),
    "deepnorm": lambda: curves(
        {
            "queries": lambda n: std(recipes.deepnorm(int(n)), "0.q_proj.weight"),
            "values": lambda n: std(recipes.deepnorm(int(n)), "0.v_proj.weight"),
        },
        DEPTHS,
        "layers",
    ),
    "t_fixup": lambda: curves(
        {
            "queries": lambda n: std(recipes.t_fixup(512, int(n)), "encoder.0.q_proj.weight"),
            "encoder": lambda n: std(recipes.t_fixup(512, int(n)), "encoder.0.v_proj.weight"),
            "decoder": lambda n: std(recipes.t_fixup(512, 0, int(n)), "decoder.0.v_proj.weight"),
        },
        DEPTHS,
        "layers",
    ),
    "fixup": lambda: curves(
        {
            f"m = {m}": lambda n, m=m: std(recipes.fixup(int(n), m), "layer1.0.conv1.weight")
            for m in (3, 2)
        },
        DEPTHS,
        "blocks",
    ),
    "mup": lambda: curves(
        {
            "embeddings": lambda n: widened("embed.weight", int(n)),
            "hidden": lambda n: widened("hidden.weight", int(n)),
            "output": lambda n: widened("out.weight", int(n)),
        },
        (64, 128, 256, 512, 1024),
        "width; the base model has 64",
    ),
    "class_prior": lambda: curves(
        {"bias": lambda p: recipes.class_prior(p).val},
        [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5],
        "probability",
        ticks=(0.001, 0.01, 0.1, 0.5),
        log="x",
    ),
}
"""Standard deviations that recipes give, and one bias."""


def widened(name: str, width: int) -> float:
    """The standard deviation over the base model's, for an MLP of which muP is asked."""
    model, base = (
        Recipe(
            [
                portinit.Rule("embed.weight", portinit.normal(), shape=(100, n), layer="embedding"),
                portinit.Rule("hidden.weight", portinit.normal(), shape=(n, n), layer="linear"),
                portinit.Rule("out.weight", portinit.normal(), shape=(10, n), layer="linear"),
            ]
        )
        for n in (width, 64)
    )
    rule = {rule.name: rule for rule in recipes.mup(model, base).rules}[name]
    law = rule.initializer.distribution_of(rule.shape or (), layout="torch")
    assert law is not None
    return law.std


def drawn(recipe: Recipe, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Parameters of a recipe by their names, as key(0) draws them, each with its name's key."""
    found = {}
    for name, shape in shapes.items():
        rule = recipe.find(portinit.Parameter(name, shape, "recurrent", fan_in=12))
        rule = rule or recipe.find(portinit.Parameter(name, shape))
        assert rule is not None
        found[name] = rule.initializer(portinit.key(0).fold_in(name), shape, layout="torch")
    return found


def fourier_features() -> Figure:
    """Cosines and sines of random frequencies, along a line, for two scales."""
    x = np.linspace(0, 1, 96)
    values = {}
    for sigma in (1.0, 10.0):
        b = portinit.normal(std=sigma)(portinit.key(0), (12, 1), "float64", layout="torch")
        values[f"std = {sigma:g}"] = np.cos(2 * np.pi * b * x)
    return side_by_side(values)


def finer() -> Figure:
    """FINER's activation: a bias from U(-k, k) chooses a frequency."""
    x = np.linspace(-3, 3, 1201)
    wave = {"": lambda b: float(np.sin((abs(b) + 1) * 5 * b))}
    return curves(wave, [*x], "bias", ticks=(-3, -2, -1, 0, 1, 2, 3), log="")


def chrono() -> Figure:
    """The time that each forget gate remembers, exp(b_f), for a t_max of 100."""
    rule = recipes.chrono_lstm(100).find(
        portinit.Parameter("bias_ih_l0", (4 * 4096,), "recurrent", fan_in=4096)
    )
    assert rule is not None
    bias = rule.initializer(portinit.key(0), (4 * 4096,), layout="torch")[4096 : 2 * 4096]
    figure = Figure(figsize=(4.5, 1.5), layout="constrained")
    axes = figure.add_subplot()
    plain(axes)
    bins = np.linspace(0, 5, 41)
    axes.hist(bias, bins, density=True, histtype="stepfilled", color=BLUE, alpha=0.55)
    b = np.linspace(0, np.log(99), 201)
    axes.plot(b, np.exp(b) / 98, color=ORANGE, linewidth=1.3)
    axes.set_xlabel("forget gate's bias, t_max = 100")
    return figure


LORA = {"lora_A": (4, 36), "lora_B": (12, 4)}
IRNN = {"weight_ih_l0": (12, 12), "weight_hh_l0": (12, 12)}
FIGURES: dict[str, Callable[[], Figure]] = {
    "lora": lambda: side_by_side(drawn(recipes.lora(), LORA)),
    "irnn": lambda: side_by_side(drawn(recipes.irnn(), IRNN)),
    "chrono_lstm": chrono,
    "switch_router": lambda: histogram(recipes.switch_router().rules[0].initializer, None),
    "fourier_features": fourier_features,
    "finer": finer,
}
