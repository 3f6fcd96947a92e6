"""One comparison of two models: weights, outputs, roundings, and what the outputs depend on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from portinit.initializers.basic import normal, uniform
from portinit.random.keys import Key
from portinit.recipes.matching.result import Pair
from portinit.testing.proof.outputs import ComparedLeaf, Comparison, compare_outputs, difference
from portinit.testing.proof.sides import Array, Reference, Twin, part_of, put_part, twin_arrays
from portinit.testing.proof.visible import visible

_CLEAR = 10.0
"""A parameter is visible without a further forward pass if its gradient promises this many times
the allowed difference."""

_APART = 2.0
"""What moves an output by more than twice the allowed difference cannot go unseen: one side is
then farther from the other than allowed, wherever the right answer lies."""


class Trial:
    """Both models with one set of random weights.

    Args:
        ours: PyTorch's model, held.
        theirs: its twin.
        initial: PyTorch's own weights.
        pairs: what is filled; anything else keeps its values.
        key: what to draw from.
        gain: a factor of matrices, see :func:`visible`.
        tolerance: for the outputs.
    """

    def __init__(
        self,
        ours: Reference,
        theirs: Twin,
        initial: Mapping[str, Array],
        pairs: Sequence[Pair],
        key: Key,
        gain: float = 1.0,
        tolerance: float | None = None,
    ) -> None:
        self._ours, self.theirs, self._initial = ours, theirs, initial
        self._key, self._gain, self._tolerance = key, gain, tolerance
        self.weights = {**initial}
        for pair in pairs:
            self._draw(pair, key)
        self._ours.fill(self._changed(pairs))
        self.weights.update(self._ours.tensors())  # as they are once they are rounded
        self.outputs = ours.outputs()
        self._noise = self._roundings(pairs)

    def _changed(self, pairs: Iterable[Pair]) -> dict[str, Array]:
        names = dict.fromkeys(pair.parameter.name for pair in pairs)
        return {name: self.weights[name] for name in names if name in self.weights}

    def _draw(self, pair: Pair, key: Key) -> None:
        """Give the parameter of a pair, or the rows of it, values of their own."""
        initial = part_of(pair, self._initial)
        if initial.dtype.kind in "fcV":
            values = visible(initial, key.fold_in(str(pair.parameter)), self._gain)
            put_part(pair, self.weights, values)

    def _roundings(self, pairs: Sequence[Pair]) -> dict[str, float]:
        """By how much one unit in the last place of all weights moves each output."""
        nudged = {}
        for name, values in self._changed(pairs).items():
            if values.dtype.kind != "c" and values.dtype.kind != "f":
                continue
            u = uniform(-1.0, 1.0)(
                self._key.fold_in(f"{name} rounded"), values.shape, layout="torch"
            )
            nudged[name] = (values * (1 + np.finfo(np.float32).eps * u)).astype(values.dtype)
        moved = self._with(nudged)
        return {
            name: difference(x, moved[name])
            for name, x in self.outputs.items()
            if x.dtype.kind in "fcV" and name in moved and moved[name].shape == x.shape
        }

    def _with(self, values: Mapping[str, Array]) -> dict[str, Any]:
        """PyTorch's outputs with some other weights."""
        self._ours.fill(values)
        try:
            return self._ours.outputs()
        finally:
            self._ours.fill({name: self.weights[name] for name in values})

    @property
    def is_finite(self) -> bool:
        """Whether PyTorch's outputs have numbers in them, and not only one."""
        floats = [x for x in self.outputs.values() if x.dtype.kind in "fcV"]
        return all(np.isfinite(x.astype(np.complex128)).any() for x in floats)

    def compare(self, pairs: Iterable[Pair]) -> Comparison:
        """The outputs of both sides under a matching."""
        arrays = twin_arrays(self.theirs.arrays, pairs, self.weights)
        return compare_outputs(
            self.outputs,
            self.theirs.outputs(arrays),
            self._tolerance,
            self._noise,
            framework=self.theirs.framework,
        )

    # What the outputs depend on

    def visible_pairs(self, pairs: Sequence[Pair], leaves: Sequence[ComparedLeaf]) -> set[str]:
        """The paths of the pairs whose parameters move an output that is compared.

        Gradients tell of most; of the rest new values do, of all of them at first, and then of
        halves of those that move an output.
        """
        seen = self._seen_by_gradients(pairs, leaves)
        rest = [pair for pair in pairs if pair.path not in seen]
        return seen | self._seen_by_new_values(rest, leaves)

    def _seen_by_gradients(self, pairs: Sequence[Pair], leaves: Sequence[ComparedLeaf]) -> set[str]:
        weights = {}
        for leaf in leaves:
            x = self.outputs[leaf.name]
            if leaf.allowed and x.dtype.kind == "f" and x.size and np.isfinite(x).all():
                z = normal()(self._key.fold_in(f"{leaf.name} weighted"), x.shape, layout="torch")
                weights[leaf.name] = z / (leaf.allowed * x.size**0.5)
        try:
            slopes = self._ours.gradients(weights) if weights else {}
        except Exception:  # the forward pass runs; differentiating it may not
            return set()
        seen = set()
        for pair in pairs:
            if pair.parameter.name in slopes:
                slope, values = part_of(pair, slopes), part_of(pair, self.weights)
                effect = float(np.linalg.norm(slope.astype(np.float64))) * float(
                    np.std(values) or np.abs(values).max(initial=0.0)
                )
                if effect > _CLEAR:
                    seen.add(pair.path)
        return seen

    def _seen_by_new_values(
        self, pairs: Sequence[Pair], leaves: Sequence[ComparedLeaf]
    ) -> set[str]:
        if not pairs or not self._moves(self._redrawn(pairs), leaves):
            return set()
        if len(pairs) == 1:
            return {pairs[0].path}
        middle = len(pairs) // 2
        halves = pairs[:middle], pairs[middle:]
        return set().union(*(self._seen_by_new_values(half, leaves) for half in halves))

    def _redrawn(self, pairs: Iterable[Pair]) -> dict[str, Array]:
        kept = {**self.weights}
        for pair in pairs:
            self._draw(pair, self._key.fold_in("anew"))
        drawn, self.weights = self._changed(pairs), kept
        return drawn

    def _moves(self, values: Mapping[str, Array], leaves: Iterable[ComparedLeaf]) -> bool:
        """Whether other weights move an output by more than roundings could."""
        moved = self._with(values)
        for leaf in leaves:
            before, after = self.outputs[leaf.name], moved[leaf.name]
            if (
                before.shape != after.shape
                or not difference(before, after) <= _APART * leaf.allowed
            ):
                return True
        return False

    def tells_apart(self, a: Pair, b: Pair, leaves: Iterable[ComparedLeaf]) -> bool:
        """Whether an output changes if the parameters of two pairs are exchanged."""
        swapped = {**self.weights}
        put_part(a, swapped, part_of(b, self.weights))
        put_part(b, swapped, part_of(a, self.weights))
        return self._moves({p.parameter.name: swapped[p.parameter.name] for p in (a, b)}, leaves)
