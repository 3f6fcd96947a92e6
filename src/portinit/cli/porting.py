"""Porting a model: both sides initialised from one recipe and key, and compared."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

import portinit
import portinit_torch
from portinit import Recipe, RecipeError
from portinit.arrays.convert import to_numpy
from portinit.cli.torch_models import torch_forward, torch_model
from portinit.cli.twins import twin_model
from portinit.cli.user_code import running
from portinit.probes.inputs import map_arrays
from portinit.probes.outputs import output_leaves
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.packed import is_recurrent_bias
from portinit.testing.arrays import differing
from portinit.testing.matches import with_uses
from portinit.testing.proof.outputs import compare_outputs
from portinit.testing.proof.proof import prove
from portinit.testing.proof.result import MatchProof
from portinit.testing.proof.sides import Twin
from portinit.testing.twins import TwinModel
from portinit.testing.weights import in_torchs_order
from portinit.verify.arrays import absolute_distance, distance_in_ulp
from portinit_torch.forward import TorchForward
from portinit_torch.inputs import torch_arguments

Names = Mapping[str, Any]

_NEAR = 1e-5  # of the largest value: a factorisation in float32 moves the last five bits or so


@dataclass(frozen=True)
class Task:
    """What to port, and how.

    Attributes:
        torch_factory: makes the PyTorch module.
        twin_factory: makes its twin: of Flax (linen, nnx, or a library's wrapper of a linen
            module), or of another framework that portinit fills.
        torch_name: what the user calls the first factory.
        twin_name: what the user calls the second.
        recipe: rules for PyTorch's names; none reads them off the first factory.
        seed: of the key that both sides draw with.
        replay: instead of a key's, the weights that ``torch.manual_seed(replay)`` gives.
        names: as for ``portinit_flax.initialize``.
        stacked: as for ``portinit_flax.initialize``.
        ignore: as for ``portinit_flax.initialize``.
        torch_input: PyTorch's example input: an array, a tuple of positional arguments, or a
            mapping of keyword arguments; none if there is none.
        twin_input: the twin's.
    """

    torch_factory: Callable[[], Any]
    twin_factory: Callable[[], Any]
    torch_name: str = "the PyTorch factory"
    twin_name: str = "the twin's factory"
    recipe: Recipe | None = None
    seed: int = 0
    replay: int | None = None
    names: Names | None = None
    stacked: Mapping[str, int] | None = None
    ignore: tuple[str, ...] = ()
    torch_input: Any = None
    twin_input: Any = None

    @property
    def request(self) -> MatchRequest:
        """What is asked of the matching."""
        return MatchRequest.of(self.names, self.stacked, self.ignore)


@dataclass(frozen=True)
class ParameterRow:
    """One parameter on both sides."""

    name: str
    path: str
    shape: tuple[int, ...]
    initializer: str
    differing: int  # elements whose bits differ
    near: str | None = None  # how near, where a replay does not promise every bit

    @property
    def same(self) -> bool:
        """Whether every bit agrees."""
        return self.differing == 0


@dataclass(frozen=True)
class FilledPair:
    """The two models, filled, and how their parameters correspond."""

    torch_model: torch.nn.Module
    twin: TwinModel
    filled: Any  # what the twin's initialize returns
    recipe: Recipe
    plans: Sequence[LeafPlan]  # what each array of the twin holds, or each layer of a stack
    initializers: Mapping[str, str]  # by PyTorch's names
    notes: tuple[str, ...] = ()
    inexact: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # see Recipe.inexact
    matching: Matching = field(default_factory=lambda: Matching(()))
    guesses: tuple[str, ...] = ()  # what is said of pairs that are guessed
    is_traced: bool = False  # whether the recipe was read off PyTorch's constructor
    has_one_bias: bool = False  # whether recurrent layers' two biases were added

    @cached_property
    def forward(self) -> Twin:
        """The filled twin as a function of its arrays, compiled once for all that runs it."""
        return self.twin.forward(self.filled)


@dataclass
class Port:
    """How a pair compares."""

    pair: FilledPair
    rows: list[ParameterRow]
    forward: float | None = None  # largest absolute difference of the outputs
    excess: float = 0.0  # the same, as a multiple of what is allowed
    proof: MatchProof | None = None  # by outputs with random weights; None without inputs
    missing_input: str = ""  # why the outputs were not compared
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Whether all bits agree that must, and the outputs to within their tolerance."""
        rows = all(row.same or row.near for row in self.rows)
        return not self.problems and self.excess <= 1 and rows

    @property
    def proved(self) -> bool:
        """Whether outputs with random weights tell that each pair is right."""
        return self.proof is not None and self.proof.is_complete

    @property
    def doubtful(self) -> set[str]:
        """The parameters whose pairs neither outputs nor names tell to be right, as rows say it."""
        doubtful = self.proof.doubtful if self.proof is not None else self.pair.matching.pairs
        return {str(pair.parameter) for pair in doubtful}


def port(task: Task, tolerance: float | None = None) -> Port:
    """Fill a PyTorch model and its twin with the same weights, and compare them.

    Args:
        task: the models and how to fill them.
        tolerance: for the outputs; as for :func:`portinit.testing.proof.outputs.compare_outputs`.

    Raises:
        portinit.RecipeError: listing everything that does not match.
    """
    pair = fill(task)
    done = compare(pair)
    missing = [
        f"{side} has no example_input() (name one with {option})"
        for side, option, given in (
            (task.torch_name, "--torch-input", task.torch_input),
            (task.twin_name, "--twin-input", task.twin_input),
        )
        if given is None
    ]
    if missing:
        done.missing_input = " and ".join(missing)
        done.notes += pair.guesses
        return done
    _compare_outputs(done, task, tolerance)
    proof = _prove(pair, task, tolerance)
    if proof.decided:
        done = compare(fill(replace(task, names=proof.matching.as_table())))
        _compare_outputs(done, task, tolerance)
    _add(done, proof)
    return done


def _prove(pair: FilledPair, task: Task, tolerance: float | None) -> MatchProof:
    """The matching of a filled pair, proved by outputs with random weights."""
    ours = TorchForward(pair.torch_model, task.torch_input)
    with running(f"a forward pass of {task.torch_name} or {task.twin_name}"):
        return prove(ours, pair.forward, pair.matching, tolerance)


def _add(done: Port, proof: MatchProof) -> None:
    """Add a proof to what was found, and say what it tells."""
    done.proof = proof
    if proof.differs:
        done.problems += proof.lines()
    elif not done.problems:
        done.notes = [*proof.lines(), *done.notes]


def channels_last(inputs: Any) -> Any:
    """An example input with the second axis of its floating arrays of 3 axes or more moved last."""

    def moved(array: Any) -> Any:
        values = to_numpy(array)
        kind = values.dtype.kind in "fV"  # V: bfloat16
        return np.moveaxis(values, 1, -1) if kind and values.ndim >= 3 else array

    return map_arrays(inputs, moved)


def fill(task: Task) -> FilledPair:
    """Fill both models, as :func:`port` does."""
    chosen, notes = _recipe(task)
    is_traced = task.recipe is None and not notes
    key = portinit.key(task.seed)
    with running(task.torch_name):
        if task.replay is not None:
            torch.manual_seed(task.replay)
        ours = torch_model(task.torch_factory, task.torch_name, task.twin_name)
    bound = portinit_torch.bind(ours, chosen)
    initializers = {str(rule.name): str(rule.initializer) for rule in bound.rules}
    inexact: Mapping[str, tuple[str, ...]] = {}
    if task.replay is not None:
        bound = bound.with_values(chosen.replay(task.replay))
        inexact = chosen.inexact()
    twin = twin_model(task.twin_factory, task.twin_name, task.twin_input)
    request = task.request
    with warnings.catch_warnings(record=True) as caught:  # of pairs that are guessed
        warnings.simplefilter("always")
        request, unknown = _with_uses(request, bound, ours, twin, task)
        bound, summed = _with_one_bias(twin, bound, key, request)
        plans, matching = twin.plans(bound, request), twin.match(bound, request)
        if task.replay is None or summed:
            portinit_torch.initialize(ours, bound, key)
        filled = twin.initialize(bound, key, request)
    guessed = dict.fromkeys(str(w.message) for w in caught if w.category is UserWarning)
    notes += [*unknown, *summed, *twin.notes]
    return FilledPair(
        ours, twin, filled, bound, plans, initializers, tuple(notes), inexact, matching,
        tuple(guessed), is_traced, bool(summed),
    )  # fmt: skip


def match(task: Task) -> tuple[Matching, str]:
    """How the two models correspond, whether they fit or not, and the twin's framework.

    Nothing is drawn.
    """
    with running(task.torch_name):
        ours = torch_model(task.torch_factory, task.torch_name, task.twin_name)
    bound = portinit_torch.bind(ours, _recipe(task)[0])
    twin = twin_model(task.twin_factory, task.twin_name, task.twin_input)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pairs that are guessed: they are listed
        request, _ = _with_uses(task.request, bound, ours, twin, task)
        with contextlib.suppress(RecipeError):  # what it says is listed too
            bound, _ = _with_one_bias(twin, bound, portinit.key(0), request)
        return twin.match(bound, request, strict=False), twin.framework


def _with_uses(
    request: MatchRequest, bound: Recipe, ours: torch.nn.Module, twin: TwinModel, task: Task
) -> tuple[MatchRequest, list[str]]:
    """The request with what the forward passes tell, if both can run, and why it has not."""
    if task.torch_input is None or task.twin_input is None:
        return request, []
    request, reason = with_uses(request, bound, ours, task.torch_input, twin)
    return request, [f"forward passes do not tell how parameters are used: {reason}"] * bool(reason)


def _recipe(task: Task) -> tuple[Recipe, list[str]]:
    """The recipe that was given or is read off PyTorch's constructor, and what to say of it."""
    if task.recipe is not None:
        return task.recipe, []
    try:
        with running(task.torch_name), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # parameters that cannot be carried are refused below
            return portinit_torch.trace(
                lambda: torch_model(task.torch_factory, task.torch_name, task.twin_name)
            ), []
    except portinit_torch.TraceError as error:
        if task.replay is not None:
            raise RecipeError(f"a replay needs a constructor that can be traced: {error}") from None
        reason = str(error).splitlines()[0]
        return portinit.recipes.torch_defaults(), [
            f"{task.torch_name} cannot be traced ({reason}): PyTorch's defaults were used instead; "
            "--recipe names another recipe"
        ]


def _with_one_bias(
    twin: TwinModel, bound: Recipe, key: portinit.Key, request: MatchRequest
) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe with a recurrent layer's two biases in one, where the twin's cells have one."""
    if not any(is_recurrent_bias(name) for name in bound.names):
        return bound, ()
    try:
        twin.match(bound, request)
    except RecipeError as error:
        without = any(is_recurrent_bias(line.partition(":")[0]) for line in error.misfits)
        if not without and "sum_biases" not in str(error):
            raise
        note = (
            f"{twin.framework}'s recurrent cells have one bias: bias_ih + bias_hh is bias_ih on "
            "both sides"
        )
        return portinit.sum_biases(bound, key), (note,)
    return bound, ()


def compare(pair: FilledPair) -> Port:
    """Compare every parameter bit for bit."""
    return Port(pair, _rows(pair), notes=list(pair.notes))


def _rows(pair: FilledPair) -> list[ParameterRow]:
    """A row for each parameter, in the PyTorch model's own order."""
    state = pair.torch_model.state_dict()
    places = {name: place for place, name in enumerate(pair.recipe.names)}
    arrays = pair.forward.arrays
    rows = []
    for plan in (one for one in pair.plans if not one.is_extra):
        leaf, name = plan.leaf, plan.parameter.name
        array = leaf.part_of(to_numpy(arrays[leaf.position]))
        ours, theirs = in_torchs_order(plan.parameter, state[name], array, plan.layout)
        count = int(np.count_nonzero(differing(ours, theirs)))
        path, text = "/".join(leaf.path), pair.initializers[name]
        near = _near(ours, theirs, pair.inexact.get(name, ())) if count else None
        rows.append(
            (places[name], ParameterRow(str(plan.parameter), path, ours.shape, text, count, near))
        )
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def _near(ours: Any, theirs: Any, operations: tuple[str, ...]) -> str | None:
    """How near two arrays are, if these operations can be why they differ; None if they cannot."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if not operations or ours.dtype != theirs.dtype or ours.dtype.kind not in "fV":
        return None
    largest = np.abs(ours.astype(np.float64)).max()
    if not absolute_distance(theirs, ours) <= _NEAR * largest:
        return None
    return f"within {distance_in_ulp(ours, theirs)} ulp ({', '.join(operations)})"


def _compare_outputs(done: Port, task: Task, tolerance: float | None) -> None:
    pair = done.pair
    arguments, note = torch_arguments(task.torch_input)
    with running(f"the forward pass of {task.torch_name}"):
        ours = output_leaves(torch_forward(pair.torch_model, arguments))
    with running(f"the forward pass of {task.twin_name}"):
        theirs = pair.forward.outputs(pair.forward.arrays)
    found = compare_outputs(ours, theirs, tolerance, framework=pair.twin.framework)
    done.forward, done.excess = found.gap, found.excess
    done.notes += [*([note] if note else []), *found.notes]
    done.problems += found.problems
