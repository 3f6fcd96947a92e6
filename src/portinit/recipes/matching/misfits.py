"""What a matching could not pair, in the words of errors: each line with likely counterparts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from portinit.recipes.matching.matcher import Matcher
from portinit.recipes.matching.names.candidates import Candidates, Named

_CANDIDATES = 4
"""How many parameters a line names that an array might be."""


def headline(matcher: Matcher, misfits: Sequence[str]) -> str:
    """How much does not fit, in a line."""
    alone = len(matcher.unmatched) + len(matcher.unclaimed)
    others = len(misfits) - alone
    if alone <= 0:
        return f"the tree and the recipe must fit; {len(misfits)} do not fit:"
    verb = "parameter has" if alone == 1 else "parameters have"
    line = f"{alone} {verb} no counterpart on the other side"
    return f"{line}, and {others} more do not fit:" if others > 0 else f"{line}:"


def without_partners(matcher: Matcher) -> Iterator[str]:
    """A line for each leaf whose parameter is not found, with those of its size."""
    if not matcher.unmatched:
        return
    left = Candidates(
        (name.split("."), name, rule.shape)
        for name, rule in matcher.known.rules()
        if name not in matcher.claimed and rule.shape is not None
    )
    for leaf in matcher.unmatched:
        likely = left.like(leaf.path, leaf.shape, _CANDIDATES)
        line = f"{leaf.label}: the recipe has no such name"
        yield line + _candidates(f"PyTorch names left over of its size {leaf.shape}", *likely)


def without_arrays(matcher: Matcher) -> Iterator[str]:
    """A line for each parameter that no leaf holds, with the leaves left over of its size."""
    if not matcher.unclaimed:
        return
    left = Candidates((leaf.path, leaf.label, leaf.shape) for leaf in matcher.unmatched)
    for name in matcher.unclaimed:
        rule = matcher.known.rule(name)
        line = f"{name}: no such parameter in the tree"
        if rule is None or rule.shape is None:
            yield line
            continue
        likely = left.like(name.split("."), rule.shape, _CANDIDATES)
        yield line + _candidates(f"arrays left over of its size {rule.shape}", *likely)


def _candidates(what: str, likely: Sequence[Named], count: int) -> str:
    """The end of a line: what could be its counterpart."""
    if not likely:
        return ""
    names = [f"{name} {shape}" for name, shape in likely]
    more = f" and {count - len(likely)} more" if count > len(likely) else ""
    return f"; {what}: {', '.join(names)}{more}"
