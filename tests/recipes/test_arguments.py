"""The arguments of every ready recipe: integers are integers, and bools are bools."""

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from portinit import recipes
from portinit.cli.named_recipes import READY_RECIPES

SIZES = {
    "blocks": 4,
    "depth": 3,
    "d_kv": 4,
    "d_model": 16,
    "decoder_layers": 2,
    "encoder_layers": 2,
    "layers": 3,
    "text_layers": 2,
    "text_width": 8,
    "vision_layers": 3,
    "vision_width": 16,
    "width": 8,
    "t_max": 100,
}
OPTIONAL = {"encoder_layers", "decoder_layers"}  # 0 without an encoder or a decoder


def arguments(kind: str) -> Iterator[Any]:
    """Each argument of a kind that ready recipes have, but for axes, which may be negative."""
    for name in READY_RECIPES:
        for argument, parameter in inspect.signature(getattr(recipes, name)).parameters.items():
            if parameter.annotation == kind and not argument.endswith("axis"):
                yield pytest.param(getattr(recipes, name), argument, id=f"{name} {argument}")


def made_with(make: Callable[..., Any], argument: str, value: Any) -> Any:
    known = {name: SIZES[name] for name in inspect.signature(make).parameters if name in SIZES}
    return make(**known | {argument: value})


def test_there_are_such_arguments() -> None:
    assert len([*arguments("int")]) >= 15
    assert len([*arguments("bool")]) >= 2


@pytest.mark.parametrize(("make", "argument"), [*arguments("int")])
@pytest.mark.parametrize(
    "value",
    [2.5, 3.0, True, np.bool_(True), "12", None, (3,), np.float32(3), np.ones(2, int), 3 + 0j],
    ids=repr,
)
def test_a_number_of_layers_or_a_width_must_be_an_integer(make, argument, value) -> None:
    wanted = f"{argument} must be an integer, got {value!r} of type {type(value).__name__}"
    with pytest.raises(TypeError, match=f"^{re.escape(wanted)}$"):
        made_with(make, argument, value)


@pytest.mark.parametrize(("make", "argument"), [*arguments("int")])
@pytest.mark.parametrize("value", [0, -1, np.int64(-3)], ids=repr)
def test_it_must_be_one_or_more(make, argument, value) -> None:
    if value == 0 and argument in OPTIONAL:
        made_with(make, argument, value)
        return
    with pytest.raises(ValueError, match=rf"^{argument} must be \d or more, got {value}$"):
        made_with(make, argument, value)


@pytest.mark.parametrize(("make", "argument"), [*arguments("int")])
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array, torch.tensor])
def test_integers_of_any_kind_make_the_same_recipe(make, argument, kind) -> None:
    size = SIZES[argument]
    other = made_with(make, argument, kind(size))
    assert other == made_with(make, argument, size)
    assert other.to_json() == made_with(make, argument, size).to_json()


@pytest.mark.parametrize(("make", "argument"), [*arguments("bool")])
@pytest.mark.parametrize("value", [1, "no", None])
def test_a_choice_must_be_true_or_false(make, argument, value) -> None:
    with pytest.raises(TypeError, match=f"^{argument} must be True or False, got {value!r}"):
        made_with(make, argument, value)


@pytest.mark.parametrize("value", ["0.5", None, True, 0.5 + 0j])
def test_a_probability_must_be_a_real_number(value) -> None:
    with pytest.raises(TypeError, match=r"^probability must be a real number"):
        recipes.class_prior(value)
