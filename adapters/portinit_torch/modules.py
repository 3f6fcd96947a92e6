"""The parameters and buffers of PyTorch modules, described to recipes."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized

from portinit import Parameter, Recipe
from portinit.initializers.fans import torch_fans
from portinit.recipes.pretrained import unused
from portinit.recipes.recipe import require_recipe
from portinit.recipes.rule import raise_misfits
from portinit_torch.naming import plain_name, renamed

WeightNorm = importlib.import_module("torch.nn.utils.weight_norm").WeightNorm
"""Its module shares its name with a function."""

_KINDS: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    (ParametrizationList, "parametrized"),
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
    own = _class_of(module)
    if own.__name__ == "Conv1D" and hasattr(module, "nf"):
        return "transposed_linear"  # transformers' GPT-2: a Linear whose weight is (in, out)
    return next((kind for types, kind in _KINDS if issubclass(own, types)), None)


def _class_of(module: nn.Module) -> type:
    """The class that a module is of, or was of before ``torch.jit.script``."""
    if not isinstance(module, torch.jit.ScriptModule):
        return type(module)
    own = getattr(nn, str(module.original_name), None)
    # Only its own type, which nothing public gives, tells torch's Linear from another class Linear.
    from_torch = str(module._c._type()).startswith("__torch__.torch.nn.modules.")
    return own if from_torch and isinstance(own, type) else type(module)


def parameters(module: nn.Module) -> list[Parameter]:
    """Describe a module's parameters to recipes; a shared one once, by its first name.

    Args:
        module: a module, on any device, the meta device included.

    Returns:
        A description of each parameter, with its name, shape, kind of layer and fan_in.

    >>> import torch, portinit_torch
    >>> [p.name for p in portinit_torch.parameters(torch.nn.Linear(3, 2))]
    ['weight', 'bias']
    """
    return [described for described, _ in _described(module, module.named_parameters, {})]


Names = Mapping[str, str]
Pairs = list[tuple[Parameter, Tensor]]


def _described(
    module: nn.Module, named: Any, names: Names, known: Collection[str] = ()
) -> Iterator[tuple[Parameter, Tensor]]:
    """Describe tensors, each by its plain name; by the wrapper's too where that is ``known``."""
    shared: dict[int, list[str]] = {}
    for name, tensor in named(remove_duplicate=False):
        shared.setdefault(id(tensor), []).append(renamed(plain_name(module, name), names))
    for name, tensor in named():
        described = describe(module, name, tensor)
        first, *others = shared[id(tensor)]
        if name != first and name in known:  # a wrapped module was traced
            others.append(name)
        if others or described.name != first:
            described = replace(described, name=first, other_names=tuple(others))
        yield described, tensor


def describe(module: nn.Module, name: str, tensor: Tensor) -> Parameter:
    """Describe one of a module's tensors to recipes, by its name without wrappers."""
    path, _, leaf = name.rpartition(".")
    owner = _submodule(module, path)
    kind = "parametrized" if _is_of_weight_norm(owner, leaf) else kind_of(owner)
    if leaf == "bias" and _is_attention_output(module, name):
        kind = "attention"
    padding = getattr(owner, "padding_idx", None) if kind == "embedding" else None
    shape = () if is_lazy(tensor) else tuple(tensor.shape)
    siblings = None
    if kind == "norm":
        siblings = tuple(dict(_submodule(module, path.rpartition(".")[0]).named_children()))
    plain = plain_name(module, name)
    return Parameter(
        plain,
        shape,
        kind,
        _fan_in(owner, kind),
        padding,
        siblings=siblings,
        direction=_direction(owner, leaf, plain) if kind == "parametrized" else None,
    )


def _submodule(module: nn.Module, path: str) -> nn.Module:
    """Like ``module.get_submodule(path)``, of scripted modules too."""
    return reduce(getattr, path.split("."), module) if path else module


def _is_attention_output(module: nn.Module, name: str) -> bool:
    """MultiheadAttention zeroes the bias of the Linear that it projects its output with."""
    path = name.split(".")
    parent = _submodule(module, ".".join(path[:-2]))
    return issubclass(_class_of(parent), nn.MultiheadAttention) and path[-2] == "out_proj"


def _is_of_weight_norm(owner: nn.Module, leaf: str) -> bool:
    """Whether a parameter is what ``torch.nn.utils.weight_norm``, a hook, stores for a weight."""
    hooks: list[Any] = [h for h in owner._forward_pre_hooks.values() if type(h) is WeightNorm]
    return any(leaf in (f"{hook.name}_g", f"{hook.name}_v") for hook in hooks)


def _direction(owner: nn.Module, leaf: str, name: str) -> tuple[str, tuple[int, ...]] | None:
    """The name and the shape of the direction beside a magnitude that weight norm stores."""
    if not isinstance(owner, ParametrizationList):
        other = leaf.removesuffix("_g") + "_v" if leaf.endswith("_g") else ""
    elif leaf == "original0" and type(owner[0]).__name__ == "_WeightNorm":  # no public name
        other = "original1"
    else:
        other = ""
    direction = getattr(owner, other, None)
    if not isinstance(direction, Tensor):
        return None
    return name.removesuffix(leaf) + other, tuple(direction.shape)


def _fan_in(owner: nn.Module, kind: str | None) -> int | None:
    if kind == "recurrent":
        return int(owner.hidden_size)  # type: ignore[arg-type]
    if kind == "bilinear":
        return int(owner.in1_features)  # type: ignore[arg-type]
    weight = _weight_of(owner)
    if isinstance(weight, Tensor) and not is_lazy(weight) and weight.ndim > 1:
        return torch_fans(weight.shape)[0]
    return None


def _weight_of(owner: nn.Module) -> Any:
    """A layer's weight; one that is parametrized is computed, changing nothing."""
    if not is_parametrized(owner, "weight"):
        return getattr(owner, "weight", None)
    parts = [*owner.get_submodule("parametrizations.weight").modules()]
    training = [part.training for part in parts]
    try:
        for part in parts:
            part.training = False  # or spectral norm renews its vectors
        with torch.no_grad():
            return owner.weight
    finally:
        for part, mode in zip(parts, training, strict=True):
            part.training = mode


def bind(module: nn.Module, recipe: Recipe) -> Recipe:
    """The recipe of this module: a rule of its own for each parameter and matched buffer.

    Floating-point buffers (running statistics) that the recipe knows are part of it; others are
    not a recipe's business.

    Args:
        module: a module, on any device, the meta device included.
        recipe: rules for the module's names.

    Returns:
        A recipe with a rule of its own for each parameter, with its name and shape.

    Raises:
        portinit.RecipeError: listing every parameter that does not fit the recipe.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit_torch.bind(torch.nn.Linear(3, 2), portinit.recipes.torch_defaults())
    >>> recipe.names
    ('weight', 'bias')
    """
    require(module, recipe)
    pairs = pairs_of(module, recipe, {})
    raise_misfits("every tensor of a file must be used", unused(recipe, all_names(module, {})))
    raise_misfits("every parameter must have a shape", [*lazy(pairs)])
    bound = recipe.bind(described for described, _ in pairs)
    known = {plain_name(module, name) for name, _ in module.named_parameters()}
    rules = [
        rule if rule.buffer == (rule.name not in known) else replace(rule, buffer=not rule.buffer)
        for rule in bound.rules
    ]
    return Recipe(rules, bound.program)


def require(module: nn.Module, recipe: Recipe) -> None:
    """Raise a TypeError that says what to give, where these are not a module and a recipe."""
    if not isinstance(module, nn.Module):
        is_flax = any(base.__module__.startswith("flax.") for base in type(module).__mro__)
        hint = ": portinit_flax.initialize fills Flax's models" if is_flax else ""
        kind = type(module).__name__
        raise TypeError(f"module must be a torch.nn.Module, got {kind}{hint}")
    require_recipe(recipe)


def all_names(module: nn.Module, names: Names) -> set[str]:
    """The recipe's names of all parameters and buffers, each of a tied one's among them."""
    tied = module.named_parameters(remove_duplicate=False)
    everything = [*tied, *module.named_buffers(remove_duplicate=False)]
    return {renamed(plain_name(module, name), names) for name, _ in everything}


def pairs_of(module: nn.Module, recipe: Recipe, names: Names) -> Pairs:
    """List the tensors that a recipe fills: the parameters, then the buffers that it names."""
    ruled = set(recipe.names)
    buffers = _described(module, module.named_buffers, names, ruled)
    known = [pair for pair in buffers if _speaks_of(recipe, pair[0])]
    return [*_described(module, module.named_parameters, names, ruled), *known]


def _speaks_of(recipe: Recipe, buffer: Parameter) -> bool:
    """Whether a recipe has a buffer's whole name, or has it among running statistics."""
    leaf = buffer.name.rpartition(".")[2]
    rule = recipe.matching_rule(buffer)
    if rule is None:
        return False
    counter = leaf == "num_batches_tracked" and leaf in rule.pattern
    return rule.name is not None or leaf in ("running_mean", "running_var") or counter


def lazy(pairs: Pairs) -> Iterator[str]:
    """A line for each parameter that has no shape yet."""
    for described, tensor in pairs:
        if is_lazy(tensor):
            yield f"{described.name}: not made yet; run the module once on an input"
