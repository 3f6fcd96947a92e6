"""PyTorch modules filled with what Flax's own ``init`` gives their twins, without JAX."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from portinit import Initializer, Key, Layout, Parameter, Recipe, blocks, where
from portinit.arrays.dtypes import dtype_name
from portinit.arrays.grids import Grid
from portinit.initializers.basic import constant
from portinit.initializers.like_jax import like_jax
from portinit.recipes.matching.names.by_name import match_names
from portinit.recipes.rule import raise_misfits
from portinit_torch.fill import fill_
from portinit_torch.modules import describe

NamesByPath = Mapping[str, str]


def initialize_like_flax(
    module: nn.Module, recipe: Recipe, keys: Mapping[str, Key], names: NamesByPath | None = None
) -> nn.Module:
    """Fill a module with what the Flax model's own initialisation gives, in place.

    Each Flax parameter is drawn from its own key as jax.nn.initializers draws it (see
    :class:`portinit.like_jax` for how exactly) and put into PyTorch's order. Everything is checked
    before anything is written.

    Args:
        module: the PyTorch twin, on any device. Values are computed on the CPU.
        recipe: the initializers of the Flax model, by PyTorch's names:
            ``portinit.recipes.flax_defaults()`` if it has Flax's defaults.
        keys: the key of each parameter by its Flax path, joined by ``/``:
            :func:`portinit.linen_keys` or :func:`portinit.nnx_keys`.
        names: where automatic matching needs help: a table from Flax paths to PyTorch's names.
            Several paths of one name (the gates of an LSTM; query, key and value) are equal
            parts of it along axis 0, in the table's order: PyTorch's is i, f, g, o and r, z, n.

    A parameter or floating-point buffer that no path leads to (a second bias, running statistics)
    must be a constant in the recipe, and gets it. An embedding's padding row is drawn like the
    others, as Flax has none; to zero it, put a ``portinit.where`` in front of the recipe.

    Returns:
        The module.

    Raises:
        portinit.RecipeError: listing every path and parameter that does not fit.

    >>> import portinit
    >>> keys = portinit.linen_keys(portinit.key(0), ["kernel", "bias"])
    >>> initialize_like_flax(nn.Linear(3, 2), portinit.recipes.flax_defaults(), keys)
    Linear(in_features=3, out_features=2, bias=True)
    """
    tensors = {**dict(module.named_parameters()), **_float_buffers(module)}
    sources, misfits = _sources(keys, tensors, dict(names or {}))
    fills: list[_Fill] = []
    for name, tensor in tensors.items():
        try:
            fills += _fills(describe(module, name, tensor), tensor, recipe, sources.get(name, []))
        except (ValueError, TypeError) as error:
            misfits.append(f"{name} {tuple(tensor.shape)}: {error}")
    raise_misfits("the module, the recipe and the keys must fit", misfits)
    for fill in fills:
        fill.write(keys)
    return module


@dataclass(frozen=True)
class _Fill:
    """One Flax parameter, or a constant, and the part of a tensor that it goes to."""

    target: Tensor
    initializer: Initializer
    layout: Layout
    path: str | None

    def check(self) -> None:
        shape = tuple(self.target.shape)
        self.initializer.planned(Grid.whole(shape, self.layout), dtype_name(self.target.dtype))

    def write(self, keys: Mapping[str, Key]) -> None:
        key = Key(0, 0) if self.path is None else keys[self.path]  # a constant asks for none
        host = torch.empty(self.target.shape, dtype=self.target.dtype)
        with torch.no_grad():
            self.target.copy_(fill_(host, self.initializer, key=key, layout=self.layout))


def _float_buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


def _sources(
    keys: Mapping[str, Key], tensors: Mapping[str, Tensor], names: dict[str, str]
) -> tuple[dict[str, list[str]], list[str]]:
    """The Flax paths that fill each tensor, and what does not match."""
    misfits = [f"{path}: in the table of names, but has no key" for path in set(names) - set(keys)]
    unnamed = [tuple(path.split("/")) for path in keys if path not in names]
    taken = set(names.values())
    found, unmatched = match_names(unnamed, (name for name in tensors if name not in taken), {})
    sources: dict[str, list[str]] = {p.name: ["/".join(path)] for path, p in found.items()}
    for path, name in names.items():
        sources.setdefault(name, []).append(path)
    misfits += [f"{n}: the module has no such parameter" for n in set(sources) - set(tensors)]
    misfits += [line.replace("the recipe has", "the module has") for line in unmatched]
    return sources, sorted(misfits)


def _fills(
    parameter: Parameter, tensor: Tensor, recipe: Recipe, paths: list[str]
) -> Iterator[_Fill]:
    if tensor.is_meta:
        raise ValueError("on the meta device; call module.to_empty(device=...) first")
    count = max(1, len(paths))
    if count > 1 and (not tensor.ndim or tensor.shape[0] % count):
        raise ValueError(f"{count} Flax parameters must be equal parts of axis 0: {paths}")
    whole = tensor.detach()
    for i in range(count):
        part = whole.chunk(count)[i] if count > 1 else whole
        path = paths[i] if paths else None
        described = replace(parameter, shape=tuple(part.shape), padding_idx=None)
        rule = recipe.find(described)
        if rule is None:
            raise ValueError("no rule matches it")
        initializer = _as_flax_draws(rule.initializer)
        if path is None and not isinstance(initializer, constant):
            raise ValueError(f"no Flax path leads to it, and {rule.initializer} needs a key")
        roles = rule.layout.roles if rule.layout else "oi"
        fill = _Fill(part, initializer, Layout(roles=roles), path)
        fill.check()
        yield fill


def _as_flax_draws(initializer: Initializer) -> Initializer:
    """The initializer of one Flax parameter, drawing as JAX does."""
    if isinstance(initializer, constant | like_jax):
        return initializer
    if isinstance(initializer, blocks) and len(set(initializer.initializers)) == 1:
        # A rule for a packed parameter, of which this is a part: or packed in Flax too.
        return _as_flax_draws(initializer.initializers[0])
    if isinstance(initializer, where):
        inside, outside = map(_as_flax_draws, (initializer.inside, initializer.outside))
        return replace(initializer, inside=inside, outside=outside)
    return like_jax(initializer)
