"""Which of a recipe's names a Flax path reads as."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property

from portinit.recipes.matching.evidence import Evidence
from portinit.recipes.matching.names.words import path_words
from portinit.recipes.names import ParameterSlice, signature, signatures_of, torch_name

Path = tuple[str, ...]


class NameIndex:
    """A recipe's names, found by paths that read the same.

    Args:
        known: the names, and those that a tied parameter has besides.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = tuple(known)
        self._exact: dict[str, tuple[str, ...]] = {}
        self._asked: dict[Path, tuple[str, ...]] = {}
        for name in self._known:
            form = signature(name)
            self._exact[form] = (*self._exact.get(form, ()), name)

    @cached_property
    def _rewritten(self) -> dict[Hashable, tuple[str, ...]]:
        rewritten: dict[Hashable, tuple[str, ...]] = {}
        for name in self._known:
            form = _rewritten(name.split("."))
            rewritten[form] = (*rewritten.get(form, ()), name)
        return rewritten

    def __bool__(self) -> bool:
        return bool(self._known)

    def find(self, *paths: Path) -> tuple[Sequence[str], Evidence]:
        """The names that one of some paths may be, the first that is any.

        Each is tried as it is written and translated, and then each in other words.
        """
        for path in paths:
            names = self.exact(path)
            if names:
                return names, Evidence.NAME
        for path in dict.fromkeys(paths) if self._known else ():
            names = self._rewritten.get(_rewritten(path), ())
            if names:
                return names, Evidence.REWRITTEN
        return (), Evidence.NAME

    def exact(self, path: Path) -> Sequence[str]:
        """The names that a path is, as it is written or translated."""
        if not self._exact:
            return ()
        names = self._asked.get(path)
        if names is None:
            forms = (self._exact.get(form) for form in signatures_of(path))
            names = self._asked[path] = next(filter(None, forms), ())
        return names


def _rewritten(path: Sequence[str]) -> Hashable:
    """The words of a path in lower case, and PyTorch's word for its leaf."""
    *modules, leaf = path
    return path_words([*modules, leaf], leaf=True)


def match_names(
    paths: Iterable[Path],
    known: Iterable[str],
    table: Mapping[str, str],
    *,
    complete: bool = True,
    owner: str = "the recipe",
) -> tuple[dict[Path, ParameterSlice], list[str]]:
    """Find the recipe's name for each path of a Flax tree, by names alone.

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
        The parameters found, and a line for each misfit.
    """
    paths, known = list(paths), dict.fromkeys(known)
    index = NameIndex(known)
    strangers = sorted({*table} - {"/".join(path) for path in paths})
    found: dict[Path, ParameterSlice] = {}
    misfits = [f"{path}: in the table of names, but not in the tree" for path in strangers]
    complete = complete and bool(known)
    for path in paths:
        label = "/".join(path)
        likely = index.exact(path)
        if label in table:
            found[path] = ParameterSlice.parse(table[label])
            if complete and found[path].name not in known:
                misfits.append(f"{label}: {owner} has no {table[label]}")
        elif len(likely) == 1:
            found[path] = ParameterSlice(likely[0])
        elif likely:
            misfits.append(f"{label}: could be any of {', '.join(likely)}")
        elif complete:
            misfits.append(f"{label}: {owner} has no such name")
        else:
            found[path] = ParameterSlice(torch_name(path))
    return found, misfits + claimed_twice(found)


def claimed_twice(found: Mapping[Path, ParameterSlice]) -> list[str]:
    """A line for each parameter that several paths are for."""
    owners: dict[ParameterSlice, list[str]] = {}
    for path, parameter in found.items():
        owners.setdefault(parameter, []).append("/".join(path))
    return [
        f"{parameter}: claimed by {' and '.join(paths)}"
        for parameter, paths in owners.items()
        if len(paths) > 1
    ]
