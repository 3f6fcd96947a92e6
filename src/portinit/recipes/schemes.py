"""Schemes: the rules that make a recipe what it is, and models that none of them fits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from portinit.initializers.base import Parameter
from portinit.recipes.display import in_words
from portinit.recipes.rule import Rule
from portinit.recipes.warned import warn_caller

Schemes = Mapping[str, Sequence[Rule]]

_SHOWN = 8
"""How many patterns and how many names a warning shows."""


def marked(scheme: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules as those of a scheme, of which one must match a parameter of a model."""
    return [replace(rule, scheme=scheme) for rule in rules]


def schemes_of(rules: Iterable[Rule]) -> Schemes:
    """The rules of each scheme, by its name."""
    schemes: dict[str, list[Rule]] = {}
    for rule in rules:
        if rule.scheme is not None:
            schemes.setdefault(rule.scheme, []).append(rule)
    return schemes


def warn_of_missed(schemes: Schemes, parameters: Sequence[Parameter]) -> None:
    """Warn of each scheme that matches no parameter of a model, which then starts without it.

    A rule in front may have taken what a scheme's rules match. Modules without a parameter of two
    axes, such as a rotary embedding by itself, have nothing to miss.
    """
    has_weights = any(len(parameter.shape) > 1 for parameter in parameters)
    for scheme, rules in schemes.items() if has_weights else ():
        if not any(rule.matches(parameter) for parameter in parameters for rule in rules):
            warn_caller("\n  ".join(_missed(scheme, rules, parameters)))


def _missed(scheme: str, rules: Sequence[Rule], parameters: Sequence[Parameter]) -> Iterator[str]:
    yield f"{scheme} matches no parameter of this model, and changes nothing:"
    patterns = [rule.pattern for rule in rules]
    kinds = dict.fromkeys(rule.kind for rule in rules if rule.kind is not None)
    of_kind = f", in layers of the kind {' or '.join(kinds)}" if kinds else ""
    yield f"it looks for {_listed(patterns)}{of_kind}"
    yield f"the model has {_listed(_names_like(patterns, parameters))}"
    argument = re.search(r"\((\w+=)\.\.\.\)", scheme)
    stated = f"in {argument[1]}, or " if argument else ""
    initializers = dict.fromkeys(in_words(rule.initializer) for rule in rules)
    rule_of = f" of {next(iter(initializers))}" if len(initializers) == 1 else ""
    yield (
        f"give the model's own names {stated}in a rule{rule_of} in front of the recipe; or leave "
        "the scheme out, if the model is not to have it"
    )


def _names_like(patterns: Sequence[str], parameters: Sequence[Parameter]) -> list[str]:
    """The names of parameters with the patterns' last parts, or of all, with ``*`` for numbers."""
    ends = {pattern.rpartition(".")[2] for pattern in patterns}
    names = [parameter.name for parameter in parameters]
    alike = [n for n in names if any(fnmatchcase(n.rpartition(".")[2], end) for end in ends)]
    return [*dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", name) for name in alike or names)]


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
