"""Models, inputs and recipes by the names given on the command line."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from portinit import Layout, Recipe, recipes
from portinit.recipes.serialization import layout_from_data


def load(target: str) -> tuple[Callable[[], Any], ModuleType]:
    """The callable that ``module:attribute`` or ``file.py:attribute`` names, and its module."""
    where, _, attribute = target.partition(":")
    if not where or not attribute:
        raise click.BadParameter(
            f"a factory must be module:function or file.py:function, got {target}"
        )
    module = _module(where)
    try:
        factory = getattr(module, attribute)
    except AttributeError:
        raise click.BadParameter(f"{where} must define {attribute}, got none") from None
    if not callable(factory):
        raise click.BadParameter(f"{target} must be callable, got {type(factory).__name__}")
    return factory, module


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        sys.path.insert(0, "")  # as `python -m` does: modules of the current folder
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise click.BadParameter(f"no module {error.name}") from error
        finally:
            sys.path.remove("")
    path = Path(where).resolve()
    if not path.is_file():
        raise click.BadParameter(f"no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise click.BadParameter(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def example_input(module: ModuleType, target: str | None) -> Any:
    """The input that ``target`` names, or the factory's module's own ``example_input()``."""
    factory = load(target)[0] if target else getattr(module, "example_input", None)
    return None if factory is None else factory()


def make_torch_model(factory: Callable[[], Any], target: str) -> Any:
    """The PyTorch module that a factory makes; ``target`` is how the user named it."""
    torch = importlib.import_module("torch")
    model = factory()
    if not isinstance(model, torch.nn.Module):
        raise click.ClickException(
            f"{target} must return a torch.nn.Module, got {type(model).__name__}"
        )
    return model


def is_recipe(text: str) -> bool:
    """Whether a text names a recipe rather than a factory: ``vit`` or ``gpt2:layers=12``."""
    name, _, arguments = text.partition(":")
    ready = name in READY_RECIPES and (not arguments or "=" in arguments)
    return ready or text.endswith(".json")


def load_recipe(text: str) -> Recipe:
    """A recipe from a JSON file, or a ready one: ``vit``, ``gpt2:layers=12``."""
    if text.endswith(".json"):
        try:
            return Recipe.from_json(Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise click.BadParameter(f"{text}: {error}") from error
    name, _, arguments = text.partition(":")
    ready = {f: getattr(recipes, f) for f in READY_RECIPES}
    if name not in ready:
        raise click.BadParameter(
            f"a recipe must be a .json file or one of {', '.join(ready)}; got {name}"
        )
    try:
        made: Recipe = ready[name](**_keywords(arguments))
    except (TypeError, ValueError) as error:
        raise click.BadParameter(f"{text}: {error}") from error
    return made


READY_RECIPES = (
    *("torch_defaults", "flax_defaults", "gpt2", "vit", "resnet"),
    *("lstm", "chrono_lstm", "gru", "rnn", "irnn"),
)


def _keywords(text: str) -> dict[str, Any]:
    pairs = [item.partition("=") for item in text.split(",") if item]
    try:
        return {key.strip(): ast.literal_eval(value.strip()) for key, _, value in pairs}
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"arguments must be such as layers=12, got {text!r}") from error


def load_names(path: str | None) -> dict[str, str | tuple[str, Layout | str]]:
    """A table of names from a JSON file: from Flax paths to names, or to [name, layout]."""
    if path is None:
        return {}
    try:
        table = json.loads(Path(path).read_text(encoding="utf-8"))
        return {
            key: value if isinstance(value, str) else (value[0], layout_from_data(value[1]))
            for key, value in table.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, IndexError, KeyError) as error:
        raise click.BadParameter(f"{path} must map Flax paths to names: {error}") from error
