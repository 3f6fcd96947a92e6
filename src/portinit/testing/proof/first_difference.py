"""Where the activations of two twins part: the first layer whose output differs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portinit.recipes.matching.result import Pair
from portinit.testing.proof.layers import LayerOutput, found_again


def first_difference(
    ours: Sequence[LayerOutput],
    theirs: Sequence[LayerOutput],
    pairs: Iterable[Pair],
    framework: str,
) -> str | None:
    """The first layer that gives another output in the twin than in PyTorch, in a sentence.

    Args:
        ours: PyTorch's layers.
        theirs: the twin's.
        pairs: which parameters are taken for one another; they tell which layers are.
        framework: the twin's, for the sentence.

    Returns:
        None if no layer can be compared.
    """
    owners = _owners(pairs)
    agreeing: list[str] = []
    counts: dict[str, int] = {}
    for layer, found in zip(ours, found_again(ours, theirs), strict=True):
        call = counts[layer.name] = counts.get(layer.name, 0) + 1
        if found:
            agreeing.append(layer.name or "the model")
            continue
        twin = _twin(theirs, owners.get(layer.name, ()), call)
        if twin is not None:
            return _sentence(layer, twin, agreeing, framework)
    if not agreeing:
        return None
    return (
        f"all {len(agreeing)} layers that both sides name give the same outputs: the difference "
        f"lies after {agreeing[-1]}, or between layers"
    )


def _owners(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """The paths of the twin's modules that hold the parameters of each of PyTorch's."""
    owners: dict[str, list[str]] = {}
    for pair in pairs:
        module = pair.parameter.name.rpartition(".")[0]
        owners.setdefault(module, []).append("/".join(pair.leaf.path[:-1]))
    return owners


def _twin(theirs: Sequence[LayerOutput], paths: Sequence[str], call: int) -> LayerOutput | None:
    """The twin's call that belongs to a call of PyTorch's: of the last of its modules to run."""
    calls: dict[str, list[LayerOutput]] = {}
    for layer in theirs:
        if layer.name in paths:
            calls.setdefault(layer.name, []).append(layer)
    return next((own[call - 1] for own in reversed(calls.values()) if len(own) >= call), None)


def _sentence(
    layer: LayerOutput, twin: LayerOutput, agreeing: Sequence[str], framework: str
) -> str:
    where = layer.name or "the model"
    if layer.size != twin.size:
        what = f"its output is {layer.shape} in PyTorch and {twin.shape} in {framework}"
    else:
        what = (
            f"its output has mean {layer.mean:.4g} and std {layer.std:.4g} in PyTorch, "
            f"{twin.mean:.4g} and {twin.std:.4g} in {framework}"
        )
    before = f"; {agreeing[-1]}, before it, agrees" if agreeing else ""
    return (
        f"{where} ({twin.name or 'the model'} in {framework}), a {layer.kind}, is the first layer "
        f"that differs: {what}{before}. Compare its arguments, such as padding and epsilon, and "
        "the functions that lead to it"
    )
