"""Names across frameworks: ``layers_0/linear1/kernel`` is ``layers.0.linear1.weight``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from portinit.arrays.layouts import LAYOUTS, Layout

_LEAVES = {
    "kernel": "weight",
    "embedding": "weight",
    "scale": "weight",
    "negative_slope": "weight",
    "mean": "running_mean",
    "var": "running_var",
}
"""What Flax calls a parameter, and what PyTorch does."""


def torch_name(path: Sequence[str]) -> str:
    """The name PyTorch would write for a Flax path, by rule.

    The last part is translated (kernel, scale and embedding are ``weight``; mean and var are
    running statistics), and a number behind an underscore is a list's index.

    >>> torch_name(("layers_0", "linear1", "kernel"))
    'layers.0.linear1.weight'
    """
    *modules, leaf = path
    parts = [re.sub(r"_(\d+)$", r".\1", module) for module in modules]
    return ".".join([*parts, _LEAVES.get(leaf, leaf)])


_ATTENTION = {"query": "in", "key": "in", "value": "in", "out": "out"}
_HEADS = {
    "in": Layout(axis0=(1, 2), axis1=(0,)),  # (embed, heads, size)
    "out": Layout(axis0=(2,), axis1=(0, 1)),  # (heads, size, embed)
}


def flax_layout(path: Sequence[str], ndim: int) -> Layout:
    """How a Flax array's axes are PyTorch's, as far as its path tells.

    >>> flax_layout(("attn", "query", "kernel"), 3).logical_shape((64, 8, 16))
    (128, 64)
    """
    if path[-1] == "embedding":
        return LAYOUTS["rows"]
    heads = _ATTENTION.get(path[-2]) if len(path) > 1 else None
    if path[-1] == "kernel":
        return _HEADS[heads] if heads and ndim == 3 else LAYOUTS["flax"]
    if path[-1] == "bias" and heads == "in" and ndim == 2:
        return Layout(axis0=(0, 1), axis1=())
    return LAYOUTS["torch"]


def _signature(name: str) -> str:
    """What two spellings of a name have in common: the words between dots and underscores."""
    return ".".join(re.split(r"[._/]+", name))


def by_signature(known: Iterable[str]) -> dict[str, list[str]]:
    """Names by what is left of them when separators make no difference."""
    names: dict[str, list[str]] = {}
    for name in known:
        names.setdefault(_signature(name), []).append(name)
    return names


def candidates(path: Sequence[str], known: Mapping[str, list[str]]) -> list[str]:
    """Which names of :func:`by_signature` a Flax path may be: as it is written, or translated."""
    return known.get(_signature("/".join(path)), []) or known.get(_signature(torch_name(path)), [])


def match_names(
    paths: Iterable[tuple[str, ...]],
    known: Iterable[str],
    table: Mapping[str, str],
    *,
    complete: bool = True,
    owner: str = "the recipe",
) -> tuple[dict[tuple[str, ...], str], list[str]]:
    """Find the recipe's name for each path of a Flax tree.

    A path in the table is what the table says. Another is the known name that reads the same but
    for dots, underscores and Flax's words for a leaf; or else, unless the known names are all
    there are, its translation.

    Args:
        paths: paths of the tree, without the collection's name.
        known: the recipe's names of single parameters; may be empty.
        table: from paths joined by ``/`` to names.
        complete: whether the known names, if there are any, are those of every parameter.
        owner: what has the known names, for the misfits to say.

    Returns:
        The names found, and a line for each misfit.
    """
    paths, known = list(paths), list(known)
    joined = {"/".join(path) for path in paths}
    signatures = by_signature(known)
    found: dict[tuple[str, ...], str] = {}
    strangers = sorted({*table} - joined)
    misfits = [f"{path}: in the table of names, but not in the tree" for path in strangers]
    complete = complete and bool(known)
    for path in paths:
        label = "/".join(path)
        likely = candidates(path, signatures)
        if label in table:
            found[path] = table[label]
            if complete and split_name(table[label])[0] not in known:
                misfits.append(f"{label}: {owner} has no {table[label]}")
        elif len(likely) == 1:
            found[path] = likely[0]
        elif likely:
            misfits.append(f"{label}: could be any of {', '.join(likely)}")
        elif complete:
            misfits.append(f"{label}: {owner} has no such name")
        else:
            found[path] = torch_name(path)
    return found, misfits + _shared(found)


def split_name(name: str) -> tuple[str, range | None]:
    """A name and the rows of PyTorch's axis 0 that it is limited to: ``in_proj_weight[0:64]``.

    >>> split_name("attn.in_proj_weight[64:128]")
    ('attn.in_proj_weight', range(64, 128))
    """
    found = re.fullmatch(r"(.*)\[(\d+):(\d+)\]", name)
    return (found[1], range(int(found[2]), int(found[3]))) if found else (name, None)


def _shared(found: Mapping[tuple[str, ...], str]) -> list[str]:
    owners: dict[str, list[str]] = {}
    for path, name in found.items():
        owners.setdefault(name, []).append("/".join(path))
    return [
        f"{name}: claimed by {' and '.join(paths)}"
        for name, paths in owners.items()
        if len(paths) > 1
    ]
