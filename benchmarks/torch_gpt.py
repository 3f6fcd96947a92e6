"""A GPT of a thousand million parameters in PyTorch, filled by recipes and by torch.nn.init."""

from __future__ import annotations

import math

import torch
from torch import nn

import portinit
import portinit_torch
from benchmarks.fresh import Task
from portinit_examples.gpt_torch import GPT

VOCABULARY, LENGTH, HEADS = 50257, 1024, 4


def make_model(width: int, layers: int) -> GPT:
    """The model, with memory that nothing has been written to where there is any."""
    return GPT(VOCABULARY, LENGTH, width, HEADS, layers)


def _unfilled(width: int, layers: int, dtype: str, memory: str) -> nn.Module:
    with torch.device("meta"):
        model = make_model(width, layers)
    model.to(getattr(torch, dtype)).to_empty(device="cpu")
    model.lm_head.weight = model.wte.weight  # to_empty gives each its own memory
    if memory == "reused":
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
    return model


def _size(model: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def ours(way: str, memory: str, dtype: str, width: int, layers: int) -> Task:
    """``initialize`` with the recipe gpt2, or with one traced off the constructor."""
    model = _unfilled(width, layers, dtype, memory)
    if way == "gpt2":
        recipe = portinit.recipes.gpt2(layers)
    else:
        recipe = portinit_torch.trace(lambda: make_model(width, layers))
    return lambda: _size(portinit_torch.initialize(model, recipe, portinit.key(0)))


def theirs(way: str, memory: str, dtype: str, width: int, layers: int) -> Task:
    """The same through torch.nn.init, or each module's own ``reset_parameters``."""
    model = _unfilled(width, layers, dtype, memory)

    def run() -> int:
        if way == "gpt2":
            by_name(model, layers)
        else:
            by_modules(model)
        return _size(model)

    return run


def by_name(model: nn.Module, layers: int) -> None:
    """GPT-2's initialisation, as its authors and their followers write it."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif ".ln" in name or name.startswith("ln"):
            nn.init.ones_(parameter)
        else:
            residual = name.endswith("proj.weight")
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)


def by_modules(model: nn.Module) -> None:
    """PyTorch's defaults, children first; the head's weight is the embedding's."""
    for name, module in reversed([*model.named_modules()]):
        reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
        if reset is not None and name != "lm_head":
            reset()
