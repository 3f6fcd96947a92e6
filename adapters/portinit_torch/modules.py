"""Whole PyTorch modules filled from recipes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from portinit import Layout, Parameter, Recipe, Rule
from portinit.backends import key_words
from portinit.dtypes import dtype_name
from portinit.fans import torch_fans
from portinit.grids import Grid
from portinit.keys import Key
from portinit.rules import raise_misfits
from portinit_torch.init import fill_

_KINDS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    (nn.Bilinear, "bilinear"),
    (nn.Linear, "linear"),
    ((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), "conv_transpose"),
    ((nn.Conv1d, nn.Conv2d, nn.Conv3d), "conv"),
    ((nn.Embedding, nn.EmbeddingBag), "embedding"),
    ((nn.RNNBase, nn.RNNCellBase), "recurrent"),
    (nn.MultiheadAttention, "attention"),
    (nn.PReLU, "prelu"),
    ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase), "norm"),
)


def kind_of(module: nn.Module) -> str | None:
    """The kind of layer a module is, as :class:`portinit.Parameter` names it."""
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
        return "transposed_linear"  # transformers' GPT-2: a Linear whose weight is (in, out)
    return next((kind for types, kind in _KINDS if isinstance(module, types)), None)


def parameters(module: nn.Module) -> list[Parameter]:
    """What the module tells recipes of its parameters; a shared one once, by its first name."""
    return [described for described, _ in _described(module, module.named_parameters)]


def _described(module: nn.Module, named: Any) -> Iterator[tuple[Parameter, Tensor]]:
    for name, tensor in named():
        yield describe(module, name, tensor), tensor


def describe(module: nn.Module, name: str, tensor: Tensor) -> Parameter:
    """What a recipe is told of one of the module's tensors."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    kind = kind_of(owner)
    if leaf == "bias" and _is_attention_output(module, name):
        kind = "attention"
    padding = getattr(owner, "padding_idx", None) if kind == "embedding" else None
    shape = () if is_lazy(tensor) else tuple(tensor.shape)
    return Parameter(name, shape, kind, _fan_in(owner, kind), padding)


def _is_attention_output(module: nn.Module, name: str) -> bool:
    """MultiheadAttention zeroes the bias of the Linear that it projects its output with."""
    path = name.split(".")
    parent = module.get_submodule(".".join(path[:-2])) if len(path) > 1 else module
    return isinstance(parent, nn.MultiheadAttention) and path[-2] == "out_proj"


def _fan_in(owner: nn.Module, kind: str | None) -> int | None:
    if kind == "recurrent":
        return int(owner.hidden_size)  # type: ignore[arg-type]
    if kind == "bilinear":
        return int(owner.in1_features)  # type: ignore[arg-type]
    weight = getattr(owner, "weight", None)
    if isinstance(weight, Tensor) and not is_lazy(weight) and weight.ndim > 1:
        return torch_fans(weight.shape)[0]
    return None


def bind(module: nn.Module, recipe: Recipe) -> Recipe:
    """The recipe of this module: a rule of its own for each parameter and matched buffer.

    Floating-point buffers (running statistics) that the recipe knows are part of it; others are
    not a recipe's business.

    Raises:
        portinit.RecipeError: listing every parameter that does not fit the recipe.
    """
    pairs = [*_described(module, module.named_parameters), *_known_buffers(module, recipe)]
    raise_misfits("every parameter must have a shape", [*_lazy(pairs)])
    bound = recipe.bind(described for described, _ in pairs)
    parameters = dict(module.named_parameters())
    rules = [replace(rule, buffer=rule.name not in parameters) for rule in bound.rules]
    return Recipe(rules, bound.program)


def _known_buffers(module: nn.Module, recipe: Recipe) -> Iterator[tuple[Parameter, Tensor]]:
    """The buffers that a recipe speaks of: by their whole name, or as running statistics."""
    for described, tensor in _described(module, module.named_buffers):
        leaf = described.name.rpartition(".")[2]
        rule = next((rule for rule in recipe.rules if rule.matches(described)), None)
        if rule is None:
            continue
        counter = leaf == "num_batches_tracked" and leaf in rule.pattern
        if rule.name is not None or leaf in ("running_mean", "running_var") or counter:
            yield described, tensor


def _lazy(pairs: list[tuple[Parameter, Tensor]]) -> Iterator[str]:
    for described, tensor in pairs:
        if is_lazy(tensor):
            yield f"{described.name}: not made yet; run the module once on an input"


def initialize(module: nn.Module, recipe: Recipe, key: Key) -> nn.Module:
    """Fill a module's parameters, and the buffers a recipe knows, in place.

    A parameter draws with ``key.fold_in(its name)``, so neither order nor device nor what else
    the module holds changes it. A shared (tied) parameter is filled once, by its first name.
    Everything is checked before anything is written.

    Args:
        module: a module on any device.
        recipe: its rules' names are the module's: ``layers.0.weight``.
        key: a :class:`portinit.Key`.

    Returns:
        The module.

    Raises:
        portinit.RecipeError: listing every parameter that no rule matches, or that is on the meta
            device, lazy, or of another shape than the recipe's.

    >>> import portinit, torch
    >>> recipe = portinit.recipes.torch_defaults()
    >>> initialize(torch.nn.Linear(3, 2), recipe, portinit.key(0))
    Linear(in_features=3, out_features=2, bias=True)
    """
    root = Key(*key_words(key))
    pairs = [*_described(module, module.named_parameters), *_known_buffers(module, recipe)]
    raise_misfits("every parameter must hold values", [*_lazy(pairs), *_meta(pairs)])
    rules = recipe.bind(described for described, _ in pairs).rules
    raise_misfits("every parameter must suit its rule", [*_unsuited(rules, pairs)])
    for rule, (described, tensor) in zip(rules, pairs, strict=True):
        key = root.fold_in(described.name)
        fill_(tensor, rule.initializer, key=key, layout=_torch_layout(rule))
    return module


def _meta(pairs: list[tuple[Parameter, Tensor]]) -> Iterator[str]:
    for described, tensor in pairs:
        if tensor.is_meta and not is_lazy(tensor):
            yield f"{described.name}: on the meta device; call module.to_empty(device=...) first"


def _unsuited(rules: tuple[Rule, ...], pairs: list[tuple[Parameter, Tensor]]) -> Iterator[str]:
    for rule, (described, tensor) in zip(rules, pairs, strict=True):
        grid = Grid.whole(described.shape, _torch_layout(rule))
        try:
            rule.initializer.check(grid, dtype_name(tensor.dtype))
        except (ValueError, TypeError) as error:
            yield f"{described.name} {described.shape}: {error}"


def _torch_layout(rule: Rule) -> Layout:
    """PyTorch's own order, with the roles that the parameter's axes have."""
    return Layout(roles=rule.layout.roles) if rule.layout else Layout()
