"""What a caller asks of a matching."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from portinit.recipes.matching.tables.files import Names
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.uses.uses import TwinUses, Uses


@dataclass(frozen=True)
class MatchRequest:
    """What is asked of a matching.

    Attributes:
        names: the user's table, as for :func:`portinit_flax.initialize`.
        stacked: from the path of what is repeated to the axis that its layers lie along.
        ignore: patterns of the recipe's names that the tree need not have, or not all of.
        uses: how the two forward passes use their parameters, where that is known.
    """

    names: NameTable = field(default_factory=dict)
    stacked: Mapping[str, int] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    uses: TwinUses | None = None

    @classmethod
    def of(
        cls,
        names: NameTable | None,
        stacked: Mapping[str, int] | None = None,
        ignore: str | Iterable[str] = (),
        uses: TwinUses | tuple[Uses, Uses] | None = None,
    ) -> MatchRequest:
        """A request as callers write it."""
        patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        both = TwinUses.of(uses)
        if isinstance(names, Names):
            patterns = (*names.ignore, *patterns)
            return cls(names, {**names.stacked, **(stacked or {})}, patterns, both)
        return cls(names or {}, stacked or {}, patterns, both)

    def ignores(self, name: str) -> bool:
        """Whether the tree need not have a parameter of this name."""
        return any(fnmatchcase(name, pattern) for pattern in self.ignore)
