"""Recording the calls of a model's layers: one rule in every framework for what a layer is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from portinit.arrays.convert import to_numpy
from portinit.probes.inputs import map_arrays
from portinit.probes.measured import ProbedLayer
from portinit.probes.moments import Moments

Change = Callable[[int, Any], Any]
"""From the number of an output and the output to what takes its place."""


class CallRecorder:
    """The calls of a model's parts, and what came out of those that call no others.

    Args:
        is_float: whether an array is one of real numbers, with at least one.
        change: applied to each output that is recorded, so that a zero may be added to it.

    Attributes:
        calls: the path and the class of each call that was recorded.
        outputs: the first floating array that each returned.
        unseen: the names of parts that were called where nothing is recorded.
    """

    def __init__(self, is_float: Callable[[Any], bool], change: Change | None = None) -> None:
        self.calls: list[tuple[str, str]] = []
        self.outputs: list[Any] = []
        self.unseen: dict[str, None] = {}
        self._is_float, self._change = is_float, change
        self._modules: list[Any] = []  # whose calls are under way

    def call(
        self, call: Callable[[], Any], module: Any, name: str | None, method: str = "__call__"
    ) -> Any:
        """Make a call of a module's method, and record it if it makes none itself.

        Args:
            call: makes it.
            module: whose method it is.
            name: the module's path; None for a copy that has no place in the model.
            method: the method's name.
        """
        within = bool(self._modules) and self._modules[-1] is module
        if within or not is_public(method):
            return call()
        if name is None:
            self.unseen[type(module).__name__] = None
            return call()
        begun = len(self.outputs)
        self._modules.append(module)
        try:
            output = call()
        finally:
            self._modules.pop()
        return output if len(self.outputs) > begun else self._record(output, module, name, method)

    def taken(self, array: Any, change: Callable[[Any], Any]) -> Any | None:
        """Record an output that was changed; None if it cannot be brought out of where it is.

        Args:
            array: the output of a layer.
            change: what is to take its place.

        Returns:
            What takes its place in the forward pass.
        """
        changed = change(array)
        self.outputs.append(changed)
        return changed

    def with_first(self, output: Any, change: Callable[[Any], Any]) -> Any:
        """An output with its first floating array changed."""
        found: list[Any] = []

        def each(array: Any) -> Any:
            if found or not self._is_float(array):
                return array
            found.append(array)
            return change(array)

        return map_arrays(output, each)

    def _record(self, output: Any, module: Any, name: str, method: str) -> Any:
        kind = type(module).__name__

        def change(array: Any) -> Any:
            return array if self._change is None else self._change(len(self.outputs), array)

        def take(array: Any) -> Any:
            taken = self.taken(array, change)
            if taken is None:
                self.unseen[name or kind] = None
                return array
            self.calls.append((name, kind if method == "__call__" else f"{kind}.{method}"))
            return taken

        return self.with_first(output, take)


def is_public(method: str) -> bool:
    """Whether a method's call counts as its module's."""
    return method == "__call__" or not method.startswith("_")


def labels(names: Sequence[str]) -> Iterator[str]:
    """The names of calls in their order, told apart: ``head``, ``head#2``."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name}#{seen[name]}"


def probed_layers(
    calls: Sequence[tuple[str, str]], outputs: Sequence[Any], gradients: Sequence[Any]
) -> Iterator[ProbedLayer]:
    """The calls measured, in their order.

    Args:
        calls: their names and classes.
        outputs: what each returned.
        gradients: of the loss at each output; None where there is none.
    """
    names = labels([name for name, _ in calls])
    for name, (_, kind), output, gradient in zip(names, calls, outputs, gradients, strict=True):
        measured = None if gradient is None else Moments.of(to_numpy(gradient))
        values = to_numpy(output)
        yield ProbedLayer(name, kind, tuple(values.shape), Moments.of(values), measured)
