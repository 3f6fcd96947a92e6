"""Where the outputs of two twins part: the first layer whose output differs, by its moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from portinit.probes.measured import ProbedLayer
from portinit.probes.moments import Moments
from portinit.probes.result import Probe

_CLOSE = 1e-3
"""Twins sum products in another order; a mistake changes a moment by more than this share."""


def first_difference(ours: Probe, theirs: Probe, owners: Mapping[str, Sequence[str]]) -> str | None:
    """The first layer that gives another output in Flax than in PyTorch, in a sentence.

    Args:
        ours: PyTorch's layers.
        theirs: Flax's.
        owners: the paths of Flax's modules that hold the parameters of each of PyTorch's.

    Returns:
        None if no layer can be compared.
    """
    agreeing: list[str] = []
    counts: dict[str, int] = {}
    for layer in ours.layers:
        name = layer.name.partition("#")[0]
        call = counts[name] = counts.get(name, 0) + 1
        twin = _twin(theirs, owners.get(name, ()), call)
        if twin is None:
            continue
        if not _agree(layer.output, twin.output):
            return _sentence(layer, twin, agreeing)
        agreeing.append(name or "the model")
    if not agreeing:
        return None
    return (
        f"all {len(agreeing)} layers that both sides name give the same outputs: the difference "
        f"lies after {agreeing[-1]}, or between layers"
    )


def _twin(theirs: Probe, paths: Sequence[str], call: int) -> ProbedLayer | None:
    """The call of Flax's that belongs to a call of PyTorch's: the last of its modules to run."""
    names = {path if call == 1 else f"{path}#{call}" for path in paths}
    return next((layer for layer in reversed(theirs.layers) if layer.name in names), None)


def _agree(a: Moments, b: Moments) -> bool:
    if a.size != b.size or (a.nan, a.inf) != (b.nan, b.inf):
        return False
    if a.nan or a.inf:
        return True
    scale = max(a.std, abs(a.mean), b.std, abs(b.mean))
    return max(abs(a.std - b.std), abs(a.mean - b.mean)) <= _CLOSE * scale


def _sentence(layer: ProbedLayer, twin: ProbedLayer, agreeing: Sequence[str]) -> str:
    where = layer.name or "the model"
    if layer.output.size != twin.output.size:
        what = f"its output is {layer.shape} in PyTorch and {twin.shape} in Flax"
    else:
        a, b = layer.output, twin.output
        what = (
            f"its output has mean {a.mean:.4g} and std {a.std:.4g} in PyTorch, "
            f"{b.mean:.4g} and {b.std:.4g} in Flax"
        )
    before = f"; {agreeing[-1]}, before it, agrees" if agreeing else ""
    return (
        f"{where} ({twin.name or 'the model'} in Flax), a {layer.kind}, is the first layer that "
        f"differs: {what}{before}. Compare its arguments, such as padding and epsilon, and the "
        "functions that lead to it"
    )
