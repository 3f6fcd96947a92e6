"""What PyTorch modules tell recipes of their parameters and buffers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from portinit import Parameter, Recipe
from portinit.initializers.fans import torch_fans
from portinit.recipes.pretrained import unused
from portinit.recipes.rule import raise_misfits
from portinit_torch.naming import plain_name, renamed

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
    return [described for described, _ in _described(module, module.named_parameters, {})]


Names = Mapping[str, str]
Pairs = list[tuple[Parameter, Tensor]]


def _described(module: nn.Module, named: Any, names: Names) -> Iterator[tuple[Parameter, Tensor]]:
    for name, tensor in named():
        described = describe(module, name, tensor)
        yield replace(described, name=renamed(described.name, names)), tensor


def describe(module: nn.Module, name: str, tensor: Tensor) -> Parameter:
    """What a recipe is told of one of the module's tensors, by its name without wrappers."""
    path, _, leaf = name.rpartition(".")
    owner = module.get_submodule(path)
    kind = kind_of(owner)
    if leaf == "bias" and _is_attention_output(module, name):
        kind = "attention"
    padding = getattr(owner, "padding_idx", None) if kind == "embedding" else None
    shape = () if is_lazy(tensor) else tuple(tensor.shape)
    return Parameter(plain_name(module, name), shape, kind, _fan_in(owner, kind), padding)


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
    pairs = pairs_of(module, recipe, {})
    raise_misfits("every tensor of a file must be used", unused(recipe, all_names(module, {})))
    raise_misfits("every parameter must have a shape", [*lazy(pairs)])
    bound = recipe.bind(described for described, _ in pairs)
    known = {parameter.name for parameter in parameters(module)}
    rules = [replace(rule, buffer=rule.name not in known) for rule in bound.rules]
    return Recipe(rules, bound.program)


def all_names(module: nn.Module, names: Names) -> set[str]:
    """The recipe's names of all parameters and buffers, each of a tied one's among them."""
    tied = module.named_parameters(remove_duplicate=False)
    everything = [*tied, *module.named_buffers(remove_duplicate=False)]
    return {renamed(plain_name(module, name), names) for name, _ in everything}


def pairs_of(module: nn.Module, recipe: Recipe, names: Names) -> Pairs:
    """What a recipe fills: the parameters, then the buffers that it speaks of."""
    buffers = _described(module, module.named_buffers, names)
    known = [pair for pair in buffers if _speaks_of(recipe, pair[0])]
    return [*_described(module, module.named_parameters, names), *known]


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
