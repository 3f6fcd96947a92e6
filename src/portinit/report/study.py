"""A model probed under its own initialisation and under others."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from portinit.initializers.basic import uniform
from portinit.initializers.jax_schemes import glorot_uniform
from portinit.probes.frameworks import ADAPTERS, CALLED, framework_of
from portinit.probes.inputs import arguments_of
from portinit.probes.measured import ProbedParameter
from portinit.probes.probing import probe
from portinit.probes.result import Probe
from portinit.random.keys import key as make_key
from portinit.recipes import flax_defaults, torch_defaults
from portinit.recipes.display import in_shape, in_words
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import RecipeError, Rule
from portinit.report.schemes import SCHEMES, scheme_recipe
from portinit.report.seeding import seeded


@dataclass(frozen=True)
class Column:
    """One initialisation: what the probe found, or why there is none."""

    name: str
    text: str
    found: Probe | None
    reason: str = ""


@dataclass(frozen=True)
class Study:
    """The contents of a page.

    Attributes:
        title: what the model is called.
        framework: its name, such as ``"PyTorch"``.
        seed: of the keys, and of the generators that a model's own values come from.
        own: the probe of the first column.
        columns: the model's own initialisation, then the others.
        promise: where the expected densities come from, in words.
        inputs: what the model was run on, in words.
    """

    title: str
    framework: str
    seed: int
    own: Probe
    columns: tuple[Column, ...]
    promise: str
    inputs: str


def study(
    factory: Callable[[], Any],
    inputs: Any,
    *,
    title: str,
    recipe: tuple[str, Recipe] | None = None,
    against: Mapping[str, Recipe | None] | Sequence[str] = ("kaiming", "xavier"),
    seed: int = 0,
    names: Mapping[str, Any] | None = None,
) -> Study:
    """Probe a model under its own initialisation and under alternatives.

    Args:
        factory: makes the model, as for :func:`portinit.probe`.
        inputs: as for :func:`portinit.probe`.
        title: what to call the model.
        recipe: a name and a recipe, in the place of the model's own initialisation.
        against: the alternatives: names of :data:`portinit.report.schemes.SCHEMES`, or a mapping
            from names to recipes, none for the scheme of that name.
        seed: 0 <= seed < 2**64; of the keys, and of the frameworks' own generators.
        names: as for :func:`portinit.probe`.

    Raises:
        portinit.RecipeError: the recipe does not fit the model. An alternative that does not fit
            is part of the result, with the reason.
    """
    with seeded(seed):
        model = factory()
    framework = framework_of(model)
    start = _own_torch(factory, model) if framework == "torch" else _own(framework, model)
    others = against if isinstance(against, Mapping) else dict.fromkeys(against)

    def filled(chosen: Recipe) -> Probe:
        return probe(model, inputs, recipe=chosen, key=make_key(seed), names=names)

    if recipe is None:
        first = Column(
            "own", "what the model starts from by itself", start.probed(inputs, seed, names)
        )
    else:
        first = Column(recipe[0], "the recipe", filled(recipe[1]))
    assert first.found is not None
    columns = [first, *(_column(name, other, start.base, filled) for name, other in others.items())]
    called = CALLED.get(framework or "", "")
    promise = start.promise if recipe is None else f"the recipe {recipe[0]}"
    return Study(title, called, seed, first.found, tuple(columns), promise, _in_words(inputs))


def _column(
    name: str, other: Recipe | None, base: Recipe, filled: Callable[[Recipe], Probe]
) -> Column:
    text = "a recipe" if other else f"kernels {in_words(SCHEMES[name])}, biases 0"
    try:
        return Column(name, text, filled(other or scheme_recipe(name, base)))
    except RecipeError as error:
        return Column(name, text, None, str(error))


@dataclass(frozen=True)
class _OwnModel:
    """A model as its constructor makes it.

    Attributes:
        laws: what its values are said to be drawn from; none if nothing says.
        guessed: whether that is only likely.
        promise: where it comes from, in words.
        base: what alternatives have where they say nothing.
    """

    model: Any
    laws: Recipe | None
    guessed: bool
    promise: str
    base: Recipe

    def probed(self, inputs: Any, seed: int, names: Any) -> Probe:
        """The model's own values, measured against what they are said to be drawn from."""
        given = {"variables": _own_variables(self.model, inputs, seed), "names": names}
        if self.laws is None:
            return probe(self.model, inputs, **given)
        try:
            found = probe(self.model, inputs, recipe=self.laws, **given)
        except RecipeError:
            if not self.guessed:
                raise
            return probe(self.model, inputs, **given)
        if not self.guessed:
            return found
        return replace(found, parameters=tuple(map(_if_it_fits, found.parameters)))


def _if_it_fits(parameter: ProbedParameter) -> ProbedParameter:
    if parameter.verdict != "off":
        return parameter
    return replace(parameter, law=None, initializer=None)


def _own_torch(factory: Callable[[], Any], model: Any) -> _OwnModel:
    adapter = importlib.import_module("portinit_torch")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what cannot be carried has no promise
            traced = adapter.trace(factory)
    except Exception as error:  # a constructor may do anything; the page says what went wrong
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        promise = f"unknown: the constructor cannot be traced ({reason})"
        return _OwnModel(model, None, False, promise, torch_defaults())
    return _OwnModel(model, traced, False, "a trace of the model's constructor", traced)


def _own(framework: str | None, model: Any) -> _OwnModel:
    """Other frameworks do not say what they draw from; their layers' defaults are likely."""
    if framework not in _DEFAULTS:
        called = CALLED.get(framework or "", "the framework")
        return _OwnModel(model, None, False, f"unknown: {called} does not say it", flax_defaults())
    defaults = _DEFAULTS[framework]()
    promise = f"the defaults of {CALLED[framework]}'s layers, where they fit"
    return _OwnModel(model, defaults, True, promise, defaults)


def _keras_defaults() -> Recipe:
    kernels = [
        Rule("*weight*", glorot_uniform(), kind=kind)
        for kind in ("linear", "conv", "conv_transpose")
    ]
    return Recipe([Rule("*", uniform(-0.05, 0.05), kind="embedding"), *kernels]) + flax_defaults()


_DEFAULTS: dict[str, Callable[[], Recipe]] = {
    "flax": flax_defaults,
    "keras": _keras_defaults,
    "equinox": torch_defaults,
    "mlx": torch_defaults,
}
"""What layers draw by themselves. Equinox and MLX draw most kernels and biases as PyTorch does."""


def _own_variables(model: Any, inputs: Any, seed: int) -> Any:
    """The variables that a model draws by itself; None for models that hold their values."""
    framework = framework_of(model)
    if framework not in ("flax", "haiku"):
        return None
    adapter = importlib.import_module(f"{ADAPTERS[framework]}.probing")
    return adapter.own_variables(model, inputs, make_key(seed))


def _in_words(inputs: Any) -> str:
    arguments, keywords = arguments_of(inputs, lambda x: x)
    parts = [("", x) for x in arguments] + [(f"{name} ", x) for name, x in keywords.items()]
    return ", ".join(f"{name}{_array_in_words(x)}" for name, x in parts)


def _array_in_words(x: Any) -> str:
    if not hasattr(x, "shape"):
        return repr(x)
    return f"{str(x.dtype).removeprefix('torch.')} {in_shape(tuple(x.shape))}"
