"""Factories of models and inputs by the names given on the command line."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from portinit.cli.user_code import running
from portinit.recipes.matching.tables.files import NAMES_FORM, Names
from portinit.recipes.rule import RecipeError

FACTORY = "module:function or file.py:function"

INPUT = click.option(
    "--input", "--twin-input", "--flax-input", "inputs", metavar="FACTORY",
    help="Factory of the example input, for models that have no parameters before they see one.",
)  # fmt: skip
"""The option of commands on one model; ``port`` has one for each side."""


def load(target: str) -> tuple[Callable[[], Any], ModuleType]:
    """The callable that ``module:attribute`` or ``file.py:attribute`` names, and its module."""
    where, _, attribute = target.partition(":")
    if not where or not attribute:
        raise click.BadParameter(f"a factory must be {FACTORY}, got {target}")
    module = _module(where)
    try:
        factory = getattr(module, attribute)
    except AttributeError:
        names = [name for name, value in vars(module).items() if callable(value)]
        raise click.BadParameter(
            f"{where} has no {attribute}{did_you_mean(attribute, names)}"
        ) from None
    if not callable(factory):
        raise click.BadParameter(f"{target} must be callable, got {type(factory).__name__}")
    return factory, module


def did_you_mean(word: str, known: list[str]) -> str:
    """A hint at the words that are nearly the given one; "" if there are none."""
    close = difflib.get_close_matches(word, known, 3)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _module(where: str) -> ModuleType:
    if not where.endswith(".py"):
        hint = f"; for a file write {where}.py" if Path(f"{where}.py").is_file() else ""
        if not all(part.isidentifier() for part in where.split(".")):  # "./x" is relative, to what?
            raise click.BadParameter(f"a factory must be {FACTORY}, got {where}{hint}")
        sys.path.insert(0, "")  # as `python -m` does: modules of the current folder
        try:
            with running(f"importing {where}"):
                return importlib.import_module(where)
        except click.ClickException as error:
            cause = error.__cause__
            if not isinstance(cause, ModuleNotFoundError):
                raise
            raise click.BadParameter(f"no module {cause.name}{hint}") from cause
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
        with running(f"importing {where}"):
            spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module


def example_input(module: ModuleType, target: str | None) -> Any:
    """The input that ``target`` names, or the factory's module's own ``example_input()``."""
    factory = load(target)[0] if target else getattr(module, "example_input", None)
    if factory is None:
        return None
    where = target or f"{module.__name__}:example_input"
    with running(where):
        given = factory()
    if given is None:
        raise click.ClickException(
            f"{where} must return an array, a tuple of positional arguments or a mapping of "
            "keyword arguments, got None"
        )
    return given


def load_names(path: str | None) -> Names:
    """A table of names from a JSON file, with what else the file says."""
    if path is None:
        return Names()
    try:
        return Names.from_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
        raise click.BadParameter(
            f"{path}: {reason}; --names takes a file with {NAMES_FORM}", param_hint="--names"
        ) from error
    except (RecipeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}", param_hint="--names") from error
