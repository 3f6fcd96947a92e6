"""Parameters that share memory: what rules for one of them do to the others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from portinit import Initializer, Parameter, Recipe, Rule
from portinit.initializers.assigned import Given, from_file
from portinit.initializers.basic import constant
from portinit_torch.modules import Pairs


def contradictions(recipe: Recipe, rules: Sequence[Rule], pairs: Pairs) -> Iterator[str]:
    """Yield a line for each tensor that would be given two values.

    A tied parameter is one tensor, of which a file may hold two: those must be equal. Parameters
    that are not one but share memory are filled one after another, and so must be filled alike.
    """
    for rule, (described, _) in zip(rules, pairs, strict=True):
        names = (described.name, *described.other_names)
        for name in names if described.other_names else ():
            other = recipe.matching_rule(Parameter(name, described.shape))
            if other is not None and _differ(rule.initializer, other.initializer):
                yield (
                    f"{' and '.join(names)}: one parameter here, and two tensors that differ in "
                    f"the file, {rule.initializer} and {other.initializer}; leave one out"
                )
    fills = [(d.name, t, r.initializer) for r, (d, t) in zip(rules, pairs, strict=True)]
    for (name, tensor, one), (second, _, two) in _overlapping(fills):
        if one != two or not isinstance(one, Given | constant):
            yield (
                f"{name} and {second}: share memory of {tuple(tensor.shape)} without being one "
                "parameter, so that one would overwrite the other; tie them (b.weight = a.weight)"
            )


def _differ(one: Initializer, other: Initializer) -> bool:
    """Whether two tensors of one checkpoint hold different numbers."""
    if one == other or not (isinstance(one, from_file) and isinstance(other, from_file)):
        return False
    if _checkpoint(one.file) != _checkpoint(other.file):
        return False  # a recipe's first rule decides
    a, b = one.array(), other.array()
    return a.dtype != b.dtype or a.tobytes() != b.tobytes()


def _checkpoint(file: str) -> str:
    """A file's path, the same for all shards of a checkpoint."""
    return re.sub(r"\d+-of-\d+", "", file)


Fill = tuple[str, Tensor, Initializer]


def _overlapping(fills: Sequence[Fill]) -> Iterator[tuple[Fill, Fill]]:
    """Yield pairs of tensors that have memory in common; every such tensor is in a pair."""
    spans = sorted(
        (str(fill[1].device), *_span(fill[1]), number)
        for number, fill in enumerate(fills)
        if _has_plain_memory(fill[1]) and fill[1].numel()
    )
    where, end, last = "", 0, 0
    for device, start, stop, number in spans:
        if device == where and start < end:
            yield fills[last], fills[number]
        if device != where or stop > end:
            where, end, last = device, stop, number


def _has_plain_memory(tensor: Tensor) -> bool:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return False
    try:
        return tensor.data_ptr() != 0
    except RuntimeError:  # a transform's (functionalize, vmap), whose memory is not the value
        return False


def _span(tensor: Tensor) -> tuple[int, int]:
    """Where a tensor's memory begins and ends."""
    steps = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = tensor.data_ptr()
    return start, start + (steps + 1) * tensor.element_size()
