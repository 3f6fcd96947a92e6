"""Rules: a pattern of names, and what the parameters it matches get."""

from __future__ import annotations

import fnmatch
import glob
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from portinit.arrays.layouts import LAYOUTS, Layout, Shape, as_layout
from portinit.initializers.base import Initializer, Parameter

SHOWN = 20
"""How many misfits the text of an error lists: a screen."""


class RecipeError(ValueError):
    """A recipe and a model, or a recipe and its data, do not fit.

    Attributes:
        misfits: a line for each of them; the error's text has the first 20.

    Args:
        message: the error's first line.
        misfits: a line for each parameter that does not fit.

    >>> error = RecipeError("2 do not fit", ["a.weight: no rule", "b.weight: no rule"])
    >>> len(error.misfits)
    2
    """

    def __init__(self, message: str, misfits: Sequence[str] = ()) -> None:
        shown, more = [*misfits[:SHOWN]], len(misfits) - SHOWN
        if more > 0:
            shown.append(f"and {more} more")
        super().__init__("\n  ".join([message, *shown]))
        self.misfits = tuple(misfits)


RecipeError.__module__ = "portinit"  # where users find it, and what a traceback should say


_SPECIAL = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Rule:
    """One line of a recipe.

    Attributes:
        pattern: a parameter's name, or a pattern with ``*``, ``?`` and ``[...]`` for all of it;
            ``*`` crosses dots.
        initializer: what the parameters it matches get.
        layout: how Flax holds them, where that is not what their names and shapes tell.
        kind: match only parameters of this kind of layer; see :class:`Parameter`.
        shape: PyTorch's shape, in the recipe of one model.
        buffer: whether it is no parameter but a buffer, which a Flax tree may lack.
        source: the line that last wrote it, in a traced recipe.
        value: the node of the program that gives it, in a traced recipe.
        layer: the kind of layer that owns the parameter, in the recipe of one model; None if it is
            none of PyTorch's. See :class:`Parameter`.
        drawn_as: the name whose key it draws with, where that is not its own: a traced constructor
            made both parameters from one draw, as copies or as functions of each other.
        other_names: those of a tied parameter besides its first, in the recipe of one model.
        scheme: the name of the scheme that the rule makes. A warning says so where none of a
            scheme's rules matches a parameter of the model.

    >>> import portinit
    >>> recipe = portinit.Recipe([Rule("*.bias", portinit.zeros), Rule("*", portinit.normal())])
    """

    pattern: str
    initializer: Initializer
    layout: Layout | None = None
    kind: str | None = None
    shape: Shape | None = None
    buffer: bool = False
    source: str | None = None
    value: int | None = None
    layer: str | None = field(default=None, compare=False)
    drawn_as: str | None = None
    other_names: tuple[str, ...] = ()
    scheme: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not isinstance(self.initializer, Initializer):
            called = isinstance(self.initializer, type) and issubclass(
                self.initializer, Initializer
            )
            hint = f": call it, {self.initializer.__name__}()" if called else ""
            raise TypeError(
                "a rule must be a name pattern and a portinit initializer, "
                f"got {self.pattern!r} and {self.initializer!r}{hint}"
            )
        if isinstance(self.layout, str):
            object.__setattr__(self, "layout", as_layout(self.layout))
        for name in ("kind", "source", "layer", "drawn_as", "scheme"):
            text = getattr(self, name)
            if text is not None and not isinstance(text, str):
                raise TypeError(f"{name} must be text, got {text!r}")

    @cached_property
    def name(self) -> str | None:
        """The one name that the pattern stands for; None if it is a pattern indeed."""
        if not _SPECIAL.search(self.pattern):
            return self.pattern
        plain = _unescape(self.pattern)
        return plain if glob.escape(plain) == self.pattern else None

    @property
    def key_name(self) -> str:
        """The name that a model's key is folded with."""
        return self.drawn_as or self.name or self.pattern

    @property
    def torch_layout(self) -> Layout:
        """PyTorch's own order, with the roles that the parameter's axes have."""
        return Layout(roles=self.layout.roles) if self.layout else Layout()

    def matches(self, parameter: Parameter) -> bool:
        """Whether the rule applies to a parameter, by any name of a shared one.

        A rule for a kind of layer asks for the kind by the parameter's first name. A pattern for
        weights says nothing of the tensors that a parametrization stores in a weight's place (the
        magnitudes of weight norm have a sign to keep): it must name them, or their kind.
        """
        if self.kind is not None:
            return self.kind == parameter.kind and self._has(parameter.name)
        names = (parameter.name, *parameter.other_names)
        if parameter.kind == "parametrized" and not self._names_stored(names):
            return False
        return self._has(parameter.name) or any(map(self._has, parameter.other_names))

    def _has(self, name: str) -> bool:
        if self.name is not None:
            return self.name == name
        return self._regex.match(name) is not None

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile(fnmatch.translate(self.pattern))

    def _names_stored(self, names: Iterable[str]) -> bool:
        leaves = {name.rpartition(".")[2] for name in names}
        return any(word in self.pattern for word in (*leaves, "parametrizations"))

    def draws_with(self, parameter: Parameter) -> str | None:
        """The name of another parameter whose key a parameter draws with; None for its own."""
        is_new = self.shape is None and self.drawn_as is None
        return self.initializer.draws_with(parameter) if is_new else self.drawn_as

    def bound(self, parameter: Parameter) -> Rule:
        """The rule for one parameter, with all that the model tells filled in."""
        return self.filled_in(parameter, self.initializer.bound(parameter))

    def filled_in(self, parameter: Parameter, initializer: Initializer) -> Rule:
        """The rule for one parameter, of its bound initializer."""
        name = parameter.name
        layout = self.layout or usual_layout(parameter)
        layer = parameter.kind or self.layer
        other_names = parameter.other_names or self.other_names
        has_changed = (
            self.shape is None
            or self.kind is not None
            or initializer is not self.initializer
            or layout is not self.layout
            or (layer, other_names) != (self.layer, self.other_names)
            or self.name != name
        )
        if not has_changed:
            return self
        return Rule(
            glob.escape(name) if _SPECIAL.search(name) else name,
            initializer,
            layout,
            shape=parameter.shape if self.shape is None else self.shape,
            buffer=self.buffer,
            source=self.source,
            value=self.value,
            layer=layer,
            drawn_as=self.draws_with(parameter),
            other_names=other_names,
        )


class RuleIndex:
    """The rules of a recipe, by the names they stand for; those with patterns apart.

    Finding the rule of a parameter takes one look-up, and a comparison with each pattern that
    stands before the rule found.
    """

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.by_name: dict[str, list[tuple[int, Rule]]] = {}
        self.patterns: list[tuple[int, Rule]] = []
        for number, rule in enumerate(rules):
            if rule.name is None:
                self.patterns.append((number, rule))
            else:
                self.by_name.setdefault(rule.name, []).append((number, rule))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the parameters that have a rule to themselves, in the recipe's order."""
        return tuple(self.by_name)

    def first(self, parameter: Parameter) -> Rule | None:
        """The first rule that matches a parameter; None if none does."""
        limit, found = math.inf, None
        for name in (parameter.name, *parameter.other_names):
            for number, rule in self.by_name.get(name, ()):
                if number < limit and rule.matches(parameter):
                    limit, found = number, rule
        for number, rule in self.patterns:
            if number > limit:
                break
            if rule.kind in (None, parameter.kind) and rule.matches(parameter):
                return rule
        return found


def is_usual(layout: Layout | None) -> bool:
    """Whether a layout is one that the kind of a layer tells, and nobody states."""
    return layout is None or layout in _USUAL.values()


_USUAL = {
    "embedding": LAYOUTS["rows"],
    "conv_transpose": LAYOUTS["flax_conv_transpose"],
    "transposed_linear": Layout(roles="io"),
}


def usual_layout(parameter: Parameter) -> Layout | None:
    """How Flax holds a parameter of its kind, where its name and shape do not tell."""
    if len(parameter.shape) < 2:
        return None
    return _USUAL.get(parameter.kind or "")


def _unescape(pattern: str) -> str:
    for special in "*?[":
        pattern = pattern.replace(f"[{special}]", special)
    return pattern


def raise_misfits(wanted: str, misfits: list[str]) -> None:
    """Raise a RecipeError that lists the misfits, if there are any."""
    if misfits:
        raise RecipeError(f"{wanted}; {len(misfits)} do not fit:", misfits)
