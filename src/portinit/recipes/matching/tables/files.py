"""Tables of names as files have them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from portinit.recipes.matching.tables.table import Table
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.rule import RecipeError


@dataclass(frozen=True, repr=False)
class Names(Mapping[str, Any]):
    """A table of names with what goes with it, as files have it.

    Attributes:
        entries: from paths of a tree, or patterns, to what :class:`Target` reads.
        ignore: patterns of PyTorch's names that the tree need not have, or not all of.
        stacked: from the path of what is repeated to the axis that its layers lie along.

    >>> names = Names.from_json('{"names": {"Dense_0": "fc"}, "ignore": ["pooler.*"]}')
    >>> names["Dense_0"], names.ignore
    ('fc', ('pooler.*',))
    """

    entries: Mapping[str, Any] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    stacked: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, path: str) -> Any:
        return self.entries[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self)} lines>"

    @classmethod
    def from_json(cls, text: str) -> Names:
        """The table of a JSON text: an object from paths to names, or one with ``"names"``.

        Raises:
            portinit.RecipeError: the text is no such table; it lists the lines that are not.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RecipeError(
                f"a table of names must be JSON, got what is no JSON: {error}"
            ) from error
        if not isinstance(data, dict):
            kind = "a list" if isinstance(data, list) else f"{data!r:.40}"
            raise RecipeError(f"a table of names must be {NAMES_FORM}, got {kind}")
        if not _has_more(data):
            return cls(data).require_readable()
        ignore, stacked = data.get("ignore", []), data.get("stacked", {})
        if not isinstance(ignore, list) or not all(isinstance(one, str) for one in ignore):
            raise RecipeError(f'"ignore" must be a list of patterns of names, got {ignore!r:.80}')
        axes = stacked.values() if isinstance(stacked, dict) else [None]
        if any(isinstance(axis, bool) or not isinstance(axis, int) for axis in axes):
            raise RecipeError(
                f'"stacked" must be an object from paths to axes, got {stacked!r:.80}'
            )
        return cls(data["names"], tuple(ignore), stacked).require_readable()

    def with_more(self, ignore: Sequence[str], stacked: Mapping[str, int] | None) -> Names:
        """The table with more patterns to ignore, and more stacked paths."""
        return Names(self.entries, (*self.ignore, *ignore), {**self.stacked, **(stacked or {})})

    def require_readable(self) -> Names:
        """This table, or a RecipeError that lists the lines that cannot be read."""
        Table(self.entries)
        return self

    def to_json(self) -> str:
        """The table as JSON text, a line an entry."""
        if not (self.ignore or self.stacked):
            return _json_object(self.entries) + "\n"
        parts = [f'"names": {_json_object(self.entries)}']
        if self.ignore:
            parts.append(f'"ignore": {_json_list(self.ignore)}')
        if self.stacked:
            parts.append(f'"stacked": {json.dumps(dict(self.stacked))}')
        return "{" + ",\n".join(parts) + "}\n"


NAMES_FORM = 'a JSON object from Flax paths to PyTorch names, {"Dense_0/kernel": "fc.weight"}'
"""The form of a table of names, as messages say it."""


def _has_more(data: dict[str, Any]) -> bool:
    """Whether JSON data has a table and what goes with it, and not a table alone."""
    if set(data) - {"names", "ignore", "stacked"} or not isinstance(data.get("names"), dict):
        return False
    return not {"init", "stack", "concat", "of", "pieces"} & set(data["names"])


def _json_object(entries: Mapping[str, Any]) -> str:
    lines = [
        f"  {json.dumps(path)}: {json.dumps(Target.read(value).to_data(), allow_nan=False)}"
        for path, value in entries.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}" if lines else "{}"


def _json_list(values: Sequence[str]) -> str:
    return "[\n  " + ",\n  ".join(map(json.dumps, values)) + "\n]"
