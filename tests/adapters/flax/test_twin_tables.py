"""Tables of every kind of twin: written and read again, and read off a conversion."""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from tests.support.twins.every import TWINS

import portinit_flax
from portinit.recipes.matching.tables.files import Names
from portinit.testing.matches import two_sides
from portinit.testing.proof.sides import twin_arrays

every_twin = pytest.mark.parametrize("name", TWINS)


@functools.cache
def sides(name: str, table: str = "") -> Any:
    case = TWINS[name]
    names: Any = Names.from_json(table) if table else case.names
    stacked = {} if table else case.stacked
    return two_sides(case.torch_model(), case.flax_model(), *case.inputs, names, stacked=stacked)


def said(matching: Any) -> dict[Any, Any]:
    """What each array holds, or each part of it in order."""
    return {
        (pair.leaf.array, pair.leaf.layer): (
            str(pair.parameter),
            pair.layout.to_torch(numbered(pair.shape)).tolist(),
        )
        for pair in matching.pairs
    }


def numbered(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(math.prod(shape)).reshape(shape)


@every_twin
def test_a_table_written_and_read_again_says_the_same(name: str) -> None:
    matching = sides(name)[2]
    again = sides(name, matching.as_table().to_json())[2]
    assert said(again) == said(matching)
    assert again.suspects == ()


@every_twin
def test_a_conversion_by_a_matching_is_read_as_that_matching(name: str) -> None:
    ours, theirs, matching = sides(name)
    weights = ours.tensors()
    paths = {pair.leaf.position: "/".join(pair.leaf.array) for pair in matching.pairs}

    def convert(state: dict[str, Any]) -> dict[str, Any]:
        arrays = twin_arrays(theirs.arrays, matching.pairs, state)
        return {path: jnp.asarray(arrays[position]) for position, path in paths.items()}

    source = {k: v for k, v in weights.items() if np.asarray(v).dtype.kind in "fV"}
    names = portinit_flax.from_conversion(convert, source)
    assert names.unexplained == ()
    again = sides(name, Names.from_json(names.to_json()).to_json())[2]
    held = twin_arrays(theirs.arrays, matching.pairs, weights)
    found = twin_arrays(theirs.arrays, again.pairs, weights)
    assert all(np.array_equal(a, b) for a, b in zip(held, found, strict=True))
