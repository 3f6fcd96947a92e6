"""A recipe of the tensors that a weight file holds: a pretrained start."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from portinit.arrays.layouts import LAYOUTS, Layout, as_layout
from portinit.arrays.weight_files import StoredTensor, shared_names, stored_tensors
from portinit.initializers.assigned import from_file
from portinit.initializers.base import Initializer
from portinit.recipes.names import flax_layout, torch_name
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule, raise_misfits

Names = Mapping[str, str | None] | Callable[[str], str | None]
_COLLECTIONS = ("params", "batch_stats")
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def pretrained(
    file: str | os.PathLike[str],
    *,
    names: Names | None = None,
    strip: str = "",
    prefix: str = "",
    only: str | Sequence[str] = "*",
    without: str | Sequence[str] = (),
    section: str = "",
    layout: str = "torch",
    layouts: Mapping[str, Layout | str] | None = None,
    strict: bool = True,
) -> Recipe:
    """Make a recipe that gives each tensor of a weight file to the parameter of its name.

    Put it in front of a recipe for the rest: ``pretrained("backbone.safetensors", without="head.*")
    + recipes.torch_defaults()``. Shapes come from headers, and every one that differs from the
    model's is listed before anything is written. Values are read when the model is filled.

    A tensor that the file notes other names of (``safetensors.torch.save_model`` stores a tied
    tensor once) is given to each of them.

    Args:
        file: safetensors, NumPy's ``.npz``, ``torch.save``'s, or an index of shards,
            ``*.index.json``. No pickle is executed.
        names: the parameters' names by the file's, or a function from one to the other; None
            leaves a tensor out. Names that a table lacks stay.
        strip: what the file's names begin with and the model's do not: ``"module."``. Tensors
            without it are left out.
        prefix: what the model's names begin with and the file's do not: ``"backbone."``.
        only: patterns of the model's names; tensors for others are left out.
        without: patterns of the model's names that are left out.
        section: for ``torch.save``'s, the keys that lead to the state_dict: ``"model"``.
        layout: ``"torch"``, or ``"flax"`` for a file that was saved from Flax, whose names are
            paths joined by ``/`` or dots, with linen's collections or not. They become PyTorch's.
        layouts: how some tensors lie in the file, by patterns of the model's names.
        strict: whether a model must have every parameter that the file gives.

    Returns:
        A rule of its own for each tensor and name, in the file's order.

    Raises:
        portinit.RecipeError: names or patterns that fit nothing, or two tensors of one name.
        ValueError: the file is no weight file, is damaged, would have to be executed, or would be
            inflated to many times its size.
        OSError: the file cannot be read.
        ImportError: safetensors, torch or ml_dtypes is needed and not installed.

    >>> import tempfile
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/w.npz", **{"module.fc.weight": np.ones((2, 3))})
    ...     recipe = pretrained(f"{folder}/w.npz", strip="module.", prefix="body.")
    >>> recipe.names, recipe.rules[0].shape
    (('body.fc.weight',), (2, 3))
    """
    if layout not in ("torch", "flax"):
        raise ValueError(f"layout must be 'torch' or 'flax', got {layout!r}")
    held = stored_tensors(os.fspath(file), section)
    noted = shared_names(os.fspath(file), section)
    held |= {name: held[kept] for name, kept in noted.items()}
    found = [*dict.fromkeys(_named(held, names, strip, prefix, layout))]
    asked = {"only": _several(only), "without": _several(without), "layouts": [*(layouts or {})]}
    chosen = [
        (name, tensor)
        for name, tensor in found
        if _matches(name, asked["only"]) and not _matches(name, asked["without"])
    ]
    misfits = [*_strangers(names, held), *_idle(asked, found), *_twice(chosen)]
    raise_misfits(f"{file} must hold what is asked for", misfits)
    return Recipe(
        _rule(name, tensor, section, _layout_in_file(name, tensor, layout, layouts), strict)
        for name, tensor in chosen
    )


def unused(recipe: Recipe, names: Collection[str]) -> list[str]:
    """A line for each tensor of a file that a recipe gives to a parameter that is not there.

    None for a recipe that has single names only: where one fits nothing, another is missing, or
    the model is a part of the one that the recipe was bound to.
    """
    given = [rule for rule in recipe.rules if isinstance(rule.initializer, from_file) and rule.name]
    if not given or all(rule.name is not None for rule in recipe.rules):
        return []
    used = used_tensors(recipe, names)
    return [
        f"{rule.name}: no such parameter in the model, and {rule.initializer} is for it"
        f"{_strip_hint(str(rule.name))}"
        for rule in given
        if not rule.buffer and rule.name not in names and rule.initializer not in used
    ]


def used_tensors(recipe: Recipe, names: Collection[str]) -> set[Initializer]:
    """The tensors of files that a recipe gives to parameters of these names.

    A file may give a tensor to several names, of which a model has one.
    """
    return {
        rule.initializer
        for rule in recipe.rules
        if isinstance(rule.initializer, from_file) and rule.name in names
    }


_WRAPPERS = ("module.", "_orig_mod.", "_fsdp_wrapped_module.")


def _strip_hint(name: str) -> str:
    """Say how to read a file of a wrapped model: names are of what is within the wrapper."""
    found = next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None)
    return f"; pretrained(..., strip={found!r}) takes a wrapper's name off" if found else ""


def _named(
    held: Mapping[str, StoredTensor], names: Names | None, strip: str, prefix: str, layout: str
) -> Iterator[tuple[str, StoredTensor]]:
    """The tensors of a file, each with the name of its parameter."""
    for name, tensor in held.items():
        own: str | None = name.removeprefix(strip)
        if strip and not name.startswith(strip):
            continue
        if callable(names):
            own = names(name)
        elif names and name in names:
            own = names[name]
        elif own and layout == "flax":
            path = _path(own)
            own = torch_name(path[1:] if path[0] in _COLLECTIONS else path)
        if own is not None:
            yield prefix + own, tensor


def _path(name: str) -> list[str]:
    return re.split(r"[./]", name)


def _several(patterns: str | Sequence[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else [*patterns]


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _strangers(names: Names | None, held: Mapping[str, StoredTensor]) -> Iterator[str]:
    for name in names if isinstance(names, Mapping) else ():
        if name not in held:
            yield f"{name}: in names, but not in the file"


def _idle(asked: Mapping[str, list[str]], found: list[tuple[str, StoredTensor]]) -> Iterator[str]:
    for argument, patterns in asked.items():
        for pattern in patterns:
            if not any(_matches(name, [pattern]) for name, _ in found):
                yield f"{argument}={pattern!r}: matches no tensor of the file"


def _twice(chosen: list[tuple[str, StoredTensor]]) -> Iterator[str]:
    for name, times in Counter(name for name, _ in chosen).items():
        if times > 1:
            yield f"{name}: {times} tensors of the file have this name"


def _layout_in_file(
    name: str, tensor: StoredTensor, layout: str, layouts: Mapping[str, Layout | str] | None
) -> Layout:
    for pattern, stated in (layouts or {}).items():
        if _matches(name, [pattern]):
            return as_layout(stated)
    if layout == "flax":
        return flax_layout(_path(tensor.name), len(tensor.shape))
    return LAYOUTS["torch"]


def _rule(name: str, tensor: StoredTensor, section: str, layout: Layout, strict: bool) -> Rule:
    return Rule(
        glob.escape(name),
        from_file(tensor.file, tensor.name, layout, section),
        shape=layout.logical_shape(tensor.shape),
        buffer=not strict or name.rpartition(".")[2] in _STATISTICS,
    )
