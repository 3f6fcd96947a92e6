"""The outputs of a PyTorch model and of its twin, compared leaf by leaf."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from portinit.arrays.convert import Array, to_numpy

TOLERANCE = 1e-5
"""Allowed difference of float32 outputs, as a share of the largest of them."""

_AMPLIFIED = 16
"""Two frameworks may differ by this many times what one unit in the weights' last place does."""

_NAMES = ("logits", "last_hidden_state")
"""What libraries call the output that counts, where a twin gives it alone."""


@dataclass(frozen=True)
class ComparedLeaf:
    """An output that was compared.

    Attributes:
        name: PyTorch's name of it.
        gap: the largest absolute difference.
        allowed: the difference that its tolerance allows.
        constant: whether all its elements are one number, which proves nothing.
    """

    name: str
    gap: float
    allowed: float
    constant: bool

    @property
    def excess(self) -> float:
        """The difference as a multiple of what is allowed."""
        if not self.gap or np.isnan(self.gap):
            return self.gap
        return self.gap / self.allowed if self.allowed else np.inf


@dataclass
class Comparison:
    """How two outputs compare.

    Attributes:
        gap: the largest absolute difference.
        excess: the largest ratio of a leaf's difference to what its tolerance allows.
        notes: what was decided on the way.
        problems: why the outputs cannot be compared.
        constant: whether all outputs are the same whatever the input, which proves nothing.
        leaves: the outputs that were compared.
    """

    gap: float = 0.0
    excess: float = 0.0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    constant: bool = False
    leaves: list[ComparedLeaf] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether outputs were compared, and all are as near as their tolerance says."""
        return bool(self.leaves) and not self.problems and self.excess <= 1


def compare_outputs(
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    tolerance: float | None = None,
    noise: Mapping[str, float] | None = None,
    *,
    framework: str = "the twin",
) -> Comparison:
    """Compare the leaves of PyTorch's output with those of its twin's.

    Leaves are paired by name, by their order where no name is common, and a lone one with what
    libraries call the output. Channels may be last on the twin's side.

    Args:
        ours: PyTorch's leaves, by name.
        theirs: the twin's.
        tolerance: the difference allowed, as a share of the largest value of a leaf; by default
            1e-5, or eight units in the last place of a narrower dtype.
        noise: by how much a change of the last place of the weights moves PyTorch's leaves. Both
            sides round at every step, so a difference of 16 times that is allowed too, unless a
            tolerance is given.
        framework: the twin's, for messages.
    """
    done = Comparison()
    pairs = list(_paired(ours, theirs, done, framework))
    for name, left, right in pairs:
        label = f"output {name}" if name else "the output"
        a, b = to_numpy(left), to_numpy(right)
        gap, moved = _closest(a, b)
        if gap is None:
            done.problems.append(
                f"{label} must have the same shape on both sides, up to the place of the channel "
                f"axis; got {a.shape} in PyTorch and {b.shape} in {framework}"
            )
            continue
        if moved:
            done.notes.append(
                f"{label} is {a.shape} in PyTorch and {b.shape} in {framework}: {moved}"
            )
        allowed = _allowed(a, b, tolerance)
        key = next(key for key, x in ours.items() if x is left)
        if tolerance is None and noise is not None:
            allowed = max(allowed, _AMPLIFIED * noise.get(key, 0.0))
        leaf = ComparedLeaf(key, gap, allowed, _says_nothing(a))
        done.leaves.append(leaf)
        done.gap = gap if np.isnan(gap) else max(done.gap, gap)
        done.excess = max(done.excess, leaf.excess, key=_nan_first)
    constant = [leaf.constant for leaf in done.leaves]
    done.constant = bool(constant) and all(constant) and not done.problems
    if not pairs and not done.problems:
        done.problems.append("neither model gives an array as its output: nothing to compare")
    return done


def _nan_first(x: float) -> float:
    return np.inf if np.isnan(x) else x


def _paired(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], done: Comparison, framework: str
) -> Iterator[tuple[str, Any, Any]]:
    common = [name for name in ours if name in theirs]
    if common:
        alone = [
            f"{side}'s {name}"
            for side, one, other in (("PyTorch", ours, theirs), (framework, theirs, ours))
            for name in one
            if name not in other
        ]
        if alone:
            done.notes.append(f"not compared, since one side has it: {', '.join(alone)}")
        yield from ((name, ours[name], theirs[name]) for name in common)
    elif len(ours) == len(theirs):
        yield from (
            (name or other, ours[name], theirs[other])
            for name, other in zip(ours, theirs, strict=True)
        )
    elif 1 in (len(ours), len(theirs)) and ours and theirs:
        many = ours if len(ours) > 1 else theirs
        name = next((name for name in _NAMES if name in many), next(iter(many)))
        side = "PyTorch" if many is ours else framework
        done.notes.append(f"of {side}'s {len(many)} outputs, {name} was compared")
        yield (
            name,
            ours[name] if many is ours else next(iter(ours.values())),
            theirs[name] if many is theirs else next(iter(theirs.values())),
        )
    else:
        done.problems.append(
            f"outputs must have the same names or the same number, got {_list(ours)} in PyTorch "
            f"and {_list(theirs)} in {framework}"
        )


def _list(leaves: Mapping[str, Any]) -> str:
    return ", ".join(name or "one array" for name in leaves) or "none"


def _closest(a: Array, b: Array) -> tuple[float | None, str]:
    """The least difference of two arrays, and which of the twin's axes were moved for it."""
    best: tuple[float | None, str] = (None, "")
    for array, moved in _arrangements(b):
        if array.shape == a.shape:
            gap = difference(a, array)
            if best[0] is None or gap < best[0]:
                best = gap, moved
    return best


def _arrangements(b: Array) -> Iterator[tuple[Array, str]]:
    yield b, ""
    if b.ndim >= 3:
        yield np.moveaxis(b, -1, 1), "channels compared first with last"
        yield np.moveaxis(b, -1, 0), "channels compared first with last"
        yield np.swapaxes(b, 0, 1), "batch compared second with first"
    if b.ndim == 0:
        yield b.reshape(1), ""


def difference(a: Array, b: Array) -> float:
    """The largest absolute difference of two arrays; NaN if either side alone is not finite."""
    if a.dtype.kind == "b" or b.dtype.kind == "b":
        return float(np.max(a != b, initial=False))
    wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
    with np.errstate(invalid="ignore"):  # the same infinity on both sides is no difference
        gaps = np.abs(a.astype(wide) - b.astype(wide))
    same = (a == b) & ~np.isfinite(a.astype(wide))
    return float(np.max(np.where(same, 0, gaps), initial=0.0))


def _allowed(a: Array, b: Array, tolerance: float | None) -> float:
    """The largest difference that is allowed of two arrays."""
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    sizes = np.abs(a.astype(wide))
    largest = float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))
    return largest * (_usual(a, b) if tolerance is None else tolerance)


def _usual(a: Array, b: Array) -> float:
    names = {a.dtype.name, b.dtype.name}
    steps = {"bfloat16": 2.0**-7, "float16": 2.0**-10}
    return max([TOLERANCE, *(8 * step for name, step in steps.items() if name in names)])


def _says_nothing(a: Array) -> bool:
    """Whether an output is one value throughout, as behind a head that starts at zero."""
    return a.size > 1 and bool((a == a.reshape(-1)[0]).all())
