"""Names across frameworks: ``layers_0/linear1/kernel`` is ``layers.0.linear1.weight``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

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


def _signature(name: str) -> str:
    """What two spellings of a name have in common: the words between dots and underscores."""
    return ".".join(re.split(r"[._/]+", name))


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
    by_signature: dict[str, list[str]] = {}
    for name in known:
        by_signature.setdefault(_signature(name), []).append(name)
    found: dict[tuple[str, ...], str] = {}
    strangers = sorted({*table} - joined)
    misfits = [f"{path}: in the table of names, but not in the tree" for path in strangers]
    complete = complete and bool(known)
    for path in paths:
        label = "/".join(path)
        as_it_is = by_signature.get(_signature(label), [])
        candidates = as_it_is or by_signature.get(_signature(torch_name(path)), [])
        if label in table:
            found[path] = table[label]
            if complete and split_name(table[label])[0] not in known:
                misfits.append(f"{label}: {owner} has no {table[label]}")
        elif len(candidates) == 1:
            found[path] = candidates[0]
        elif candidates:
            misfits.append(f"{label}: could be any of {', '.join(candidates)}")
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
