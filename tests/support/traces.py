"""Traced constructors, replayed and compared with what PyTorch builds."""

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from portinit import Recipe
from portinit_torch import trace

Build = Callable[[], nn.Module]
SEEDS = (0, 1234)


class Holder(nn.Module):
    """A module that holds tensors, floating ones as parameters."""

    def __init__(self, **held: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in held.items():
            if tensor.is_floating_point():
                setattr(self, name, nn.Parameter(tensor.detach()))
            else:
                self.register_buffer(name, tensor.detach())


def tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*module.named_parameters(), *module.named_buffers()])


def traced(build: Build) -> tuple[Recipe, list[str]]:
    """A recipe, and the warnings of its trace; torch, NumPy and Python are left as they were."""
    before = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recipe = trace(build)
    after = torch.get_rng_state(), np.random.get_state()[1].tobytes(), random.getstate()  # noqa: NPY002
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    said = [text for w in caught if "parameters cannot be" in (text := str(w.message))]
    return Recipe.from_json(recipe.to_json()), said


def built(build: Build, seed: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = tensors(build())
    assert not any(isinstance(tensor, FakeTensor) for tensor in found.values())
    return {name: tensor.detach() for name, tensor in found.items()}


def raw(value: Any) -> bytes:
    if isinstance(value, torch.Tensor):
        flat = value.resolve_conj().resolve_neg().contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy().tobytes()
    return np.asarray(value).tobytes()


def compare(build: Build, tolerance: float = 0.0, lost: tuple[str, ...] = ()) -> None:
    """A replay has everything but what is lost, which a warning names."""
    recipe, said = traced(build)
    assert set(recipe.unreplayable()) == set(lost)
    assert all(name in "".join(said) for name in lost)
    assert bool(said) == bool(lost), said
    for seed in SEEDS:
        expected = built(build, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if lost else "error")
            values = recipe.replay(seed, strict=not lost)
        assert set(values) == set(expected) - set(lost)
        for name, value in values.items():
            assert value.dtype.name == str(expected[name].dtype).removeprefix("torch.")
            if tolerance:
                np.testing.assert_allclose(value, expected[name].numpy(), atol=tolerance, rtol=1e-4)
            else:
                assert raw(value) == raw(expected[name]), name
