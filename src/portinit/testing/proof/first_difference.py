"""Where the activations of two twins part: the first layer whose output differs."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from portinit.recipes.matching.result import Pair
from portinit.testing.proof.layers import LayerOutput, found_again

_SHOWN = 3
"""How many layers that cannot be compared a sentence lists."""


def first_difference(
    ours: Sequence[LayerOutput],
    theirs: Sequence[LayerOutput],
    pairs: Iterable[Pair],
    framework: str,
) -> str | None:
    """The first layer that gives other values in the twin than in PyTorch, in sentences.

    A layer whose output has another size there, or that is not seen there, cannot be compared: it
    is counted, and never called the first that differs.

    Args:
        ours: PyTorch's layers.
        theirs: the twin's.
        pairs: which parameters are taken for one another; they tell which layers are.
        framework: the twin's, for the sentence.

    Returns:
        None if PyTorch's layers hold no parameter of a pair.
    """
    if not ours:
        return "no layer is named, since PyTorch's model does not run with its layers watched"
    owners = _owners(pairs)
    agreeing: list[str] = []
    unknown: dict[str, str] = {}
    counts: dict[str, int] = {}
    for layer, found in zip(ours, found_again(ours, theirs), strict=True):
        call = counts[layer.name] = counts.get(layer.name, 0) + 1
        where = layer.name or "the model"
        if found:
            agreeing.append(where)
            continue
        paths = _paths(owners, layer.name)
        if not paths:
            continue
        twin = _twin(theirs, paths, call)
        if twin is None:
            unknown[where] = f"no call of it is seen in {framework}"
        elif twin.size != layer.size:
            unknown[where] = f"{layer.shape} in PyTorch, {twin.shape} in {framework}"
        else:
            return f"{_sentence(layer, twin, agreeing, framework)}{_doubt(unknown)}"
    if not agreeing:
        return f"no layer is found that differs{_doubt(unknown)}" if unknown else None
    rest = "or between layers" if not unknown else "between layers, or in one that is not compared"
    return (
        f"all {len(agreeing)} layers that both sides name give the same outputs: the difference "
        f"lies after {agreeing[-1]}, {rest}{_doubt(unknown)}"
    )


def _owners(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """The paths of the twin's modules that hold the parameters of each of PyTorch's."""
    owners: dict[str, list[str]] = {}
    for pair in pairs:
        module = pair.parameter.name.rpartition(".")[0]
        owners.setdefault(module, []).append("/".join(pair.leaf.path[:-1]))
    return owners


def _paths(owners: Mapping[str, Sequence[str]], name: str) -> set[str]:
    """The twin's modules for a layer of PyTorch's, with those for parts that it does not call."""
    within = f"{name}." if name else ""
    own = (paths for one, paths in owners.items() if one == name or one.startswith(within))
    return {path for paths in own for path in paths}


def _twin(theirs: Sequence[LayerOutput], paths: Container[str], call: int) -> LayerOutput | None:
    """The twin's call that belongs to a call of PyTorch's: of the last of its modules to run."""
    calls: dict[str, list[LayerOutput]] = {}
    for layer in theirs:
        if layer.name in paths:
            calls.setdefault(layer.name, []).append(layer)
    return next((own[call - 1] for own in reversed(calls.values()) if len(own) >= call), None)


def _sentence(
    layer: LayerOutput, twin: LayerOutput, agreeing: Sequence[str], framework: str
) -> str:
    before = f"; {agreeing[-1]}, before it, agrees" if agreeing else ""
    return (
        f"{layer.name or 'the model'} ({twin.name or 'the model'} in {framework}), a {layer.kind}, "
        f"is the first layer that differs: its output has mean {layer.mean:.4g} and std "
        f"{layer.std:.4g} in PyTorch, {twin.mean:.4g} and {twin.std:.4g} in {framework}{before}. "
        "Compare its arguments, such as padding and epsilon, and the functions that lead to it"
    )


def _doubt(unknown: Mapping[str, str]) -> str:
    """A sentence on layers before that cannot be compared; "" if there are none."""
    if not unknown:
        return ""
    shown = [f"{name} ({reason})" for name, reason in unknown.items()][:_SHOWN]
    more = f", and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    layers, them = ("1 layer", "it") if len(unknown) == 1 else (f"{len(unknown)} layers", "them")
    return (
        f". {layers} could not be compared, and the fault may lie in {them} or just before: "
        f"{', '.join(shown)}{more}"
    )
