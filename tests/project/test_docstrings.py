"""The docstrings of public names: arguments, results, errors, sources, and examples that run."""

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

PUBLIC = [
    "portinit",
    "portinit.layers",
    "portinit.recurrent",
    "portinit.recipes",
    "portinit.checkpoints",
    "portinit.probes",
    "portinit.testing",
    "portinit_torch",
    "portinit_jax.initializers",
    "portinit_flax",
    "portinit_keras",
    "portinit_equinox",
    "portinit_haiku",
    "portinit_mlx",
]
PLAIN = {"portinit.layers", "portinit.recurrent", "portinit_jax.initializers"}
"""Modules and no packages: what they import is not theirs."""
RESULTS = {
    "portinit.Probe",
    "portinit.checkpoints.CheckpointError",
    "portinit.checkpoints.Entry",
    "portinit.checkpoints.TensorSpec",
    "portinit.checkpoints.Replay",
    "portinit.probes.ProbedLayer",
    "portinit.probes.ProbedParameter",
    "portinit.probes.Problem",
    "portinit_flax.Compiled",
    "portinit_flax.CompiledProgram",
    "portinit_flax.Evidence",
    "portinit_flax.LayoutEvidence",
    "portinit_flax.Matching",
    "portinit_flax.Pair",
    "portinit_jax.initializers.Scaled",
    "portinit_jax.initializers.Scaling",
    "portinit_jax.initializers.Typed",
    "portinit.testing.MatchProof",
    "portinit_torch.InexactWarning",
    "portinit_torch.TraceError",
}
"""What a user gets and does not make; the function that gives it has the example."""
ERRORS = re.compile(r"\w*(Error|Warning)\b")


def public_names() -> Iterator[tuple[str, Any]]:
    """Every public class and function once, by the path a user would type."""
    seen = set()
    for module in PUBLIC:
        package = importlib.import_module(module)
        for name in getattr(package, "__all__", None) or dir(package):
            value = getattr(package, name)
            home = getattr(value, "__module__", "")
            ours = home == module if module in PLAIN else home.startswith("portinit")
            old = "Deprecated" in (getattr(value, "__doc__", "") or "")
            if name.startswith("_") or not callable(value) or not ours or old or id(value) in seen:
                continue
            seen.add(id(value))
            yield f"{module}.{name}", value


NAMES = dict(public_names())
CALLABLES = {name: v for name, v in NAMES.items() if inspect.isclass(v) or inspect.isfunction(v)}


def doc(value: Any) -> str:
    return inspect.cleandoc(value.__doc__ or "")


def arguments(value: Any) -> list[str]:
    """The names of what a call takes."""
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    parameters = inspect.signature(value).parameters.values()
    return [p.name for p in parameters if p.name != "self" and p.kind not in kinds]


def section(text: str, heading: str) -> str:
    """The indented lines below a heading such as ``Args:``; empty if there are none."""
    match = re.search(rf"^{heading}:\n((?:(?: .*)?\n)*)", text + "\n", re.MULTILINE)
    return match[1] if match else ""


def returns_something(value: Any) -> bool:
    if inspect.isclass(value):
        return False
    annotation = inspect.signature(value).return_annotation
    return annotation not in (None, "None", inspect.Signature.empty)


@pytest.mark.parametrize("name", sorted(CALLABLES.keys() - RESULTS))
def test_every_argument_is_explained(name: str) -> None:
    text = doc(CALLABLES[name])
    explained = section(text, "Args") + section(text, "Attributes")
    named = set(re.findall(r"^\s+(\w+):", explained, re.MULTILINE))
    missing = [argument for argument in arguments(CALLABLES[name]) if argument not in named]
    assert not missing, f"{name}: {missing}"


@pytest.mark.parametrize("name", [n for n, v in CALLABLES.items() if returns_something(v)])
def test_a_function_says_what_it_returns(name: str) -> None:
    assert section(doc(CALLABLES[name]), "Returns") or section(doc(CALLABLES[name]), "Yields")


@pytest.mark.parametrize("name", CALLABLES)
def test_errors_are_named(name: str) -> None:
    raises = section(doc(CALLABLES[name]), "Raises")
    if raises:
        assert all(ERRORS.search(line) for line in raises.splitlines() if re.match(r"    \S", line))


@pytest.mark.parametrize("name", sorted(CALLABLES.keys() - RESULTS))
def test_there_is_an_example(name: str) -> None:
    assert ">>> " in doc(CALLABLES[name])


SCHEMES = [
    name
    for name, value in CALLABLES.items()
    if "_schemes" in value.__module__ or value.__module__.startswith("portinit.recipes.ready")
]


@pytest.mark.parametrize("name", SCHEMES)
def test_a_scheme_names_its_source(name: str) -> None:
    assert "Source: " in doc(CALLABLES[name])
