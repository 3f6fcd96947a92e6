"""Recipes by the names given on the command line."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import click

from portinit import Recipe, Rule, recipes
from portinit.cli.factories import FACTORY, did_you_mean

READY_RECIPES = tuple(
    name
    for name, function in sorted(vars(recipes).items())
    if inspect.isfunction(function)
    and inspect.signature(function).return_annotation == "Recipe"
    and function is not recipes.mup  # which is made of two recipes
)


def ordinary_rules() -> set[Rule]:
    """The rules of the ready recipes that need no arguments: they are for many models."""
    functions = (getattr(recipes, name) for name in READY_RECIPES)
    free = [
        function
        for function in functions
        if all(p.default is not p.empty for p in inspect.signature(function).parameters.values())
        and function is not recipes.deepnorm  # which needs one of two
    ]
    return {rule for function in free for rule in function().rules}


def is_recipe(text: str) -> bool:
    """Whether a text names a recipe rather than a factory: ``vit`` or ``gpt2:layers=12``."""
    name, _, arguments = text.partition(":")
    ready = name in READY_RECIPES and (not arguments or "=" in arguments)
    return ready or ":" not in text or text.endswith(".json")


def load_recipe(text: str) -> Recipe:
    """A recipe from a JSON file, or a ready one: ``vit``, ``gpt2:layers=12``."""
    if text.endswith(".json"):
        return _from_file(text)
    name, _, arguments = text.partition(":")
    if name not in READY_RECIPES:
        factory = "" if ":" in text else f"; a factory is {FACTORY}"
        raise click.BadParameter(
            f"a recipe must be a .json file or one of {', '.join(READY_RECIPES)}; got {name!r}"
            f"{did_you_mean(name, [*READY_RECIPES])}{factory}"
        )
    function = getattr(recipes, name)
    given = _keywords(text, arguments)
    _check_arguments(name, function, given)
    try:
        made: Recipe = function(**given)
    except (TypeError, ValueError) as error:
        raise click.BadParameter(f"{text}: {error}") from error
    return made


def _from_file(path: str) -> Recipe:
    try:
        return Recipe.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.BadParameter(
            f"{path}: {reason}; portinit trace FACTORY --out {path} writes a recipe"
        ) from error
    except ValueError as error:
        raise click.BadParameter(f"{path}: {error}") from error


def _check_arguments(name: str, function: Any, given: dict[str, Any]) -> None:
    """Refuse arguments that a ready recipe lacks or does not know, by their names."""
    parameters = inspect.signature(function).parameters
    required = [one.name for one in parameters.values() if one.default is one.empty]
    missing = [argument for argument in required if argument not in given]
    unknown = [argument for argument in given if argument not in parameters]
    if unknown:
        hint = did_you_mean(unknown[0], [*parameters])
        known = ", ".join(parameters) or "no arguments"
        raise click.BadParameter(f"{name} takes {known}; got {unknown[0]}{hint}")
    if missing:
        example = ",".join(f"{argument}={_EXAMPLES.get(argument, 1)}" for argument in missing)
        raise click.BadParameter(
            f"{name} needs {' and '.join(missing)}: write {name}:{example} with your model's own"
        )


_EXAMPLES = {
    "layers": 12,
    "text_layers": 12,
    "vision_layers": 12,
    "blocks": 16,
    "width": 768,
    "text_width": 512,
    "vision_width": 768,
    "d_model": 512,
    "d_kv": 64,
    "t_max": 100,
}


def _keywords(text: str, arguments: str) -> dict[str, Any]:
    pairs = [item.partition("=") for item in arguments.split(",") if item]
    try:
        return {key.strip(): ast.literal_eval(value.strip()) for key, _, value in pairs}
    except (SyntaxError, ValueError) as error:
        raise click.BadParameter(
            f"{text}: arguments must be such as layers=12,std=0.02, got {arguments!r}"
        ) from error
