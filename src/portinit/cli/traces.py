"""Commands on recipes: show, trace, replay."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from portinit import Parameter, Recipe, RecipeError, Rule
from portinit.cli.app import CONSOLE, portinit, say_written
from portinit.cli.code import as_code
from portinit.cli.factories import INPUT, example_input, load, load_names
from portinit.cli.files import writable, write_atomically, write_tensors
from portinit.cli.named_recipes import READY_RECIPES, is_recipe, load_recipe, ordinary_rules
from portinit.cli.tables import print_plans, print_recipe
from portinit.cli.user_code import running
from portinit.probes.frameworks import framework_of
from portinit.recipes.matching.plans import LeafPlan
from portinit.recipes.matching.request import MatchRequest

_AS_CODE = click.option(
    "--as-code", is_flag=True, help="Print the Flax initializers to paste instead of a table."
)


@portinit.command()
@click.argument("recipe_or_factory")
@click.option("--recipe", default="torch_defaults", show_default=True, help=(
    "For a factory: the recipe to bind to its model, one of " + ", ".join(READY_RECIPES)
    + " or a JSON file."))  # fmt: skip
@click.option("--names", metavar="FILE", help=(
    "For a factory that is not PyTorch's: a JSON table from paths to PyTorch names, or to "
    "[name, layout]."))  # fmt: skip
@INPUT
@_AS_CODE
def show(
    recipe_or_factory: str, recipe: str, names: str | None, inputs: str | None, as_code: bool
) -> None:
    """Show a recipe's rules, or what a recipe gives each parameter of a model."""
    title = recipe_or_factory
    if is_recipe(title):
        _print(title, load_recipe(title), as_code)
        return
    factory, module = load(title)
    chosen, table = load_recipe(recipe), load_names(names)
    twins = importlib.import_module("portinit.cli.twins")
    said = f"{title} with {recipe}"
    is_torch = False
    try:
        model = twins.torch_or_twin(factory, title, lambda: example_input(module, inputs))
        is_torch = framework_of(model) == "torch"
        if is_torch:
            bound = importlib.import_module("portinit_torch").bind(model, chosen)
            _print(said, bound, as_code)
            known = [_parameter(rule) for rule in bound.rules]
        else:
            plans = model.plans(chosen, MatchRequest.of(table))
            _print_plans(said, plans, as_code)
            known = [Parameter(p.parameter.name, p.grid.shape, p.kind) for p in plans]
    except RecipeError as error:
        hint = _unruled_hint(error, recipe, title, is_torch)
        raise click.ClickException(f"{error}{hint}") from error
    if recipe.endswith(".json") and not as_code:
        _print_unmatched(chosen, known)


def _parameter(rule: Rule) -> Parameter:
    """The parameter that a bound rule is for."""
    names = rule.other_names
    return Parameter(rule.name or "", rule.shape or (), rule.layer, other_names=names)


def _print_unmatched(recipe: Recipe, parameters: Sequence[Parameter]) -> None:
    """The user's own rules that match nothing; those of the ready recipes are for many models."""
    ordinary = ordinary_rules()
    patterns = [
        rule.pattern
        for rule in recipe.unmatched_rules(parameters)
        if rule.scheme is None and rule.shape is None and rule not in ordinary
    ]
    if patterns:
        text = f"rules that match nothing: {', '.join(patterns)}"
        CONSOLE.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _unruled_hint(error: RecipeError, recipe: str, factory: str, is_torch: bool) -> str:
    """Which recipe lacks a rule for the model's own parameters, and how each gets one."""
    lacking = [line for line in error.misfits if line.endswith("no rule matches it")]
    if not lacking:
        return ""
    name = lacking[0].partition(" ")[0]
    trace = (
        f"\n- portinit trace {factory} reads off the constructor what each parameter gets"
        if is_torch
        else ""
    )
    return (
        f"\nThe recipe is {recipe}; it has no rule for a model's own parameters:{trace}\n"
        "- --recipe takes another ready recipe, such as vit or gpt2:layers=12, or a JSON file\n"
        f'- such a file is written by portinit.Recipe([portinit.Rule("{name}", '
        "portinit.normal(std=0.02))]) + portinit.recipes.torch_defaults(), of which to_json() is "
        "the text"
    )


def _print_plans(title: str, plans: Sequence[LeafPlan], code: bool) -> None:
    """What each array of a model gets, or the initializers of what it gets."""
    if code:
        rules = [plan.bound_rule for plan in plans if not plan.is_extra]
        click.echo(as_code(Recipe([*{rule.name: rule for rule in rules}.values()])))
        return
    print_plans(CONSOLE, title, plans)


@portinit.command()
@click.argument("factory")
@click.option("--out", callback=writable, help="Write the recipe here, as JSON.")
@_AS_CODE
def trace(factory: str, out: Path | None, as_code: bool) -> None:
    """Read a PyTorch model's initialisation off its own constructor.

    FACTORY is module:function or file.py:function. The constructor runs on tensors without data.
    What cannot be carried is named, and makes the exit status 1.
    """
    torch_adapter = importlib.import_module("portinit_torch")
    build, _ = load(factory)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make = _torch_models().torch_model
        try:
            with running(factory):
                recipe: Recipe = torch_adapter.trace(lambda: make(build, factory))
        except torch_adapter.TraceError as error:
            raise click.ClickException(f"{factory} cannot be traced: {error}") from error
    _print(factory, recipe, as_code)
    if out is not None:
        write_atomically(out, recipe.to_json().encode())
        say_written("wrote", out)
    lost = [str(w.message) for w in caught if "parameters cannot be" in str(w.message)]
    if lost:
        raise click.ClickException("\n".join(lost))


@portinit.command()
@click.argument("recipe")
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The seed of torch.manual_seed."
)
@click.option(
    "--torch-version",
    help=(
        "Version of PyTorch whose samplers to replay, such as 2.13; by default the traced one's."
    ),
)
@click.option("--out", required=True, callback=writable, help="Write a safetensors file here.")
def replay(recipe: str, seed: int, torch_version: str | None, out: Path) -> None:
    """Write the weights that torch.manual_seed and a traced constructor give, without torch."""
    loaded = load_recipe(recipe)
    try:
        values, inexact = loaded.replay(seed, torch_version), loaded.inexact(torch_version)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    write_tensors(out, values, {"seed": str(seed)})
    say_written(f"wrote {len(values)} tensors to", out)
    CONSOLE.print(_digits(len(values), inexact), markup=False, soft_wrap=True)


def _digits(count: int, inexact: Mapping[str, tuple[str, ...]]) -> str:
    """Which digits to expect of a replay."""
    if not inexact:
        return "every bit is PyTorch's (on a CPU, in one thread)"
    operations = ", ".join(sorted({op for ops in inexact.values() for op in ops}))
    named = ", ".join([*inexact][:3]) + (", and others" if len(inexact) > 3 else "")
    return (
        f"every bit of {count - len(inexact)} is PyTorch's; the last bits of {len(inexact)} may "
        f"differ ({operations}): {named}. See portinit doctor for PyTorch's own digits"
    )


def _torch_models() -> Any:
    return importlib.import_module("portinit.cli.torch_models")  # torch: seconds to import


def _print(title: str, recipe: Recipe, code: bool) -> None:
    if code:
        click.echo(as_code(recipe))
    else:
        print_recipe(CONSOLE, title, recipe)
