"""The proof of a matching, for a PyTorch module and its twin."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from portinit.random.keys import key
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.targets import NameTable
from portinit.recipes.matching.uses.uses import TwinUses
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import RecipeError
from portinit.testing.proof.proof import prove
from portinit.testing.proof.result import MatchProof
from portinit.testing.proof.sides import Reference, Twin
from portinit.testing.sides import recipe_of, torch_side
from portinit.testing.twins import TwinModel, twin_of


def prove_match(
    torch_module: Any,
    twin_model: Any,
    inputs: Any,
    twin_inputs: Any = None,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
    tolerance: float | None = None,
) -> MatchProof:
    r"""Prove that names and layouts match, by forward passes with random weights.

    Both models get the same random values in every parameter, other than zeros and ones, and run
    in evaluation mode. Outputs that agree prove every pair whose parameter moves them by more than
    twice the tolerance

    .. math:: \max(10^{-5} \max |y|, 16\, |y(w (1 + \varepsilon u)) - y(w)|)

    with the outputs y, the weights w, float32's :math:`\varepsilon = 2^{-23}` and u from U(-1, 1):
    both sides round at each step, which moves the outputs about as a change of the weights' last
    place does. Parameters that move no output are listed and not proved, such as the bias of
    attention's keys or an expert that no token is sent to.

    If the outputs do not agree, pairs and layouts that were guessed are changed until they do, and
    the changes are listed.

    Args:
        torch_module: an ``nn.Module``; it keeps its weights.
        twin_model: its twin, which keeps its weights: an ``nnx.Module``, a linen module or a
            library's wrapper of one; a Keras model; an Equinox module, alone or with its State;
            what ``hk.transform`` gives; or an ``mlx.nn.Module``.
        inputs: PyTorch's example input: an array, a tuple of positional arguments, or a mapping of
            keyword arguments.
        twin_inputs: the twin's; by default the same.
        names: as for ``portinit_flax.initialize``.
        stacked: as for ``portinit_flax.initialize``.
        ignore: as for ``portinit_flax.initialize``.
        tolerance: the difference of outputs that is allowed, as a share of their largest value; by
            default the one above, or eight units in the last place of a narrower dtype.

    Returns:
        A :class:`MatchProof`: whether the outputs agree, the pairs that are proved and those that
        are not, what was decided, and where the activations part.

    Raises:
        portinit.RecipeError: listing everything that does not match.

    >>> import numpy as np, torch
    >>> from flax import linen
    >>> proof = prove_match(torch.nn.Linear(4, 4), linen.Dense(4), np.ones((2, 4), np.float32))
    >>> print(proof)
    proved by random weights: all 2 parameters matter, outputs within ...
    >>> proof.matching["kernel"][0]
    'weight'
    """
    ours, theirs, matching = two_sides(
        torch_module, twin_model, inputs, twin_inputs, names, stacked=stacked, ignore=ignore
    )
    return prove(ours, theirs, matching, tolerance)


def two_sides(
    torch_module: Any,
    twin_model: Any,
    inputs: Any,
    twin_inputs: Any = None,
    names: NameTable | None = None,
    *,
    stacked: Mapping[str, int] | None = None,
    ignore: str | Iterable[str] = (),
) -> tuple[Reference, Twin, Matching]:
    """The two models as functions of their weights, and how they match; see `prove_match`."""
    from portinit_torch.forward import TorchForward

    twin = twin_of(twin_model, inputs if twin_inputs is None else twin_inputs).copied()
    recipe, request = recipe_of(torch_side(torch_module)), MatchRequest.of(names, stacked, ignore)
    request, _ = with_uses(request, recipe, torch_module, inputs, twin)
    matching = twin.match(recipe, request)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "[0-9]+ arrays are matched by a guess")
        filled = twin.initialize(recipe, key(0), request)
    return TorchForward(torch_module, inputs), twin.forward(filled), matching


def with_uses(
    request: MatchRequest, recipe: Recipe, torch_module: Any, inputs: Any, twin: TwinModel
) -> tuple[MatchRequest, str]:
    """A request with what both forward passes tell, where names and shapes do not tell all.

    Args:
        request: what the user states.
        recipe: rules for the module's names.
        torch_module: an ``nn.Module``.
        inputs: its example input.
        twin: its twin, with an example input.

    Returns:
        The request, and why the uses are not known; empty if they are, or are not needed.
    """
    try:
        if twin.match(recipe, request).is_certain:
            return request, ""
    except RecipeError:
        pass  # the forward passes may tell what names do not
    from portinit_torch import uses
    from portinit_torch.inputs import torch_arguments

    (args, kwargs), _ = torch_arguments(inputs)
    try:
        theirs = twin.uses()
        if theirs is None:
            return request, ""
        return replace(request, uses=TwinUses(uses(torch_module, *args, **kwargs), theirs)), ""
    except Exception as error:  # code of the user's: the forward pass will say it again
        return request, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
