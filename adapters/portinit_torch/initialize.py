"""Whole PyTorch modules filled from recipes, wherever their parameters are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from portinit import Recipe, Rule
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.backends.numpy import NUMPY
from portinit.backends.registry import words_of
from portinit.random.keys import Key
from portinit.recipes.pretrained import unused
from portinit.recipes.rule import raise_misfits
from portinit_torch.fill import fill_
from portinit_torch.materialize import materialized
from portinit_torch.memory import why_unfillable
from portinit_torch.modules import Names, Pairs, all_names, lazy, pairs_of, require
from portinit_torch.naming import unfit_names
from portinit_torch.sharded import require_placements
from portinit_torch.sharing import contradictions

if TYPE_CHECKING:
    import jax

_Module = TypeVar("_Module", bound=nn.Module)


def initialize(
    module: _Module,
    recipe: Recipe,
    key: Key | jax.Array,
    *,
    device: torch.device | str | int | None = None,
    names: Names | None = None,
) -> _Module:
    """Fill a module's parameters, and the buffers a recipe knows, in place.

    A parameter draws with ``key.fold_in(its name)``, so neither order nor device nor what else
    the module holds changes it. A shared (tied) parameter is filled once, with the key of its first
    name; a rule may name it by any. Everything is checked before anything is written.

    Of parameters that are DTensors (FSDP2, tensor parallelism) each rank fills what it holds, with
    the bytes that an unsharded model has there, and nothing is sent. Fans are of the whole shape.

    Names are seen through torch.compile, activation checkpointing and data parallelism: a recipe
    says ``fc.weight`` where the module says ``_orig_mod.fc.weight``.

    Args:
        module: a module on any device.
        recipe: its rules' names are the module's: ``layers.0.weight``.
        key: a :class:`portinit.Key`, or a JAX threefry key whose words are known.
        device: where to make what is on the meta device, shards of DTensors only; what is
            elsewhere stays there.
        names: the recipe's names, or prefixes of them, by the module's, where these differ: the
            layers of a pipeline stage, ``{"layers.0": "layers.16"}``. Keys come from the recipe's
            names, so that a stage agrees with the whole model.

    Returns:
        The module.

    Raises:
        portinit.RecipeError: listing every parameter that no rule matches, or that is on the meta
            device with no other given, lazy, of another shape than the recipe's, or of a dtype that
            cannot hold what a file gives; every buffer on the meta device that no rule speaks of;
            and parameters that share memory without being one.
        ValueError: ``device`` is the meta device.

    >>> import portinit, torch
    >>> recipe = portinit.recipes.torch_defaults()
    >>> initialize(torch.nn.Linear(3, 2, device="meta"), recipe, portinit.key(0), device="cpu")
    Linear(in_features=3, out_features=2, bias=True)
    """
    require(module, recipe)
    root, names = Key(*words_of(key, NUMPY)), names or {}
    target = _with_memory(device)
    pairs = pairs_of(module, recipe, names)
    raise_misfits("names must lead to one tensor each", [*_misnamed(module, names)])
    raise_misfits("every tensor of a file must be used", unused(recipe, all_names(module, names)))
    bare = _unknown_buffers(module, pairs) if target else _meta(pairs)
    raise_misfits("every parameter must hold values", [*lazy(pairs), *bare])
    rules = recipe.bind(described for described, _ in pairs).rules
    unsuited = [*_unsuited(rules, pairs), *contradictions(recipe, rules, pairs)]
    raise_misfits("every parameter must suit its rule", unsuited)
    made = target is not None and any(tensor.is_meta for _, tensor in pairs)
    with materialized(module, target) if made and target else nullcontext():
        pairs = pairs_of(module, recipe, names) if made else pairs
        for rule, (described, tensor) in zip(rules, pairs, strict=True):
            if 0 in described.shape:
                continue
            key = root.fold_in(rule.key_name)
            fill_(tensor, rule.initializer, key=key, layout=rule.torch_layout)
    return module


def _with_memory(device: Any) -> torch.device | None:
    target = None if device is None else torch.device(device)
    if target and target.type == "meta":
        raise ValueError("device must be one with memory, such as cpu or cuda; got meta")
    return target


def _misnamed(module: nn.Module, names: Names) -> Iterator[str]:
    return unfit_names(sorted(all_names(module, {})), names)


def _meta(pairs: Pairs) -> Iterator[str]:
    for described, tensor in pairs:
        if tensor.is_meta and not is_lazy(tensor):
            yield (
                f"{described.name}: on the meta device; say where to make it with device=..., or "
                "call module.to_empty(device=...) first"
            )


def _unknown_buffers(module: nn.Module, pairs: Pairs) -> Iterator[str]:
    """Meta buffers that nobody would fill."""
    known = {id(tensor) for _, tensor in pairs}
    for name, buffer in module.named_buffers():
        if buffer.is_meta and id(buffer) not in known:
            yield (
                f"{name}: a buffer on the meta device that no rule names; compute it first, or "
                "add a rule with its name"
            )


def _unsuited(rules: tuple[Rule, ...], pairs: Pairs) -> Iterator[str]:
    for rule, (described, tensor) in zip(rules, pairs, strict=True):
        if 0 in described.shape:  # nothing to fill, and no fans
            continue
        grid = Grid.whole(described.shape, rule.torch_layout)
        reason = None if tensor.is_meta else why_unfillable(tensor)
        if reason:
            yield f"{described.name} {described.shape}: {reason}"
            continue
        try:
            rule.initializer.planned(grid, dtype_name(tensor.dtype))
            require_placements(tensor)
        except (ValueError, TypeError) as error:
            yield f"{described.name} {described.shape}: {error}"
