"""What every framework promises: one key, the same bytes, wherever a parameter lies.

Each row of :mod:`tests.support.frameworks` answers the same questions in its own framework, and
NumPy's values are compared with its answers here.
"""

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from tests.support.frameworks import FRAMEWORKS
from tests.support.frameworks.array_namespaces import Numpy
from tests.support.frameworks.framework import KEY, NET, Framework
from tests.support.frameworks.questions import (
    MISFITS,
    NOT_ELEMENTWISE,
    WRONG_KEYS,
    answers,
    classes_in,
    digest,
    drawn,
    draws,
    public_initializers,
)

ROOT = Path(__file__).parents[2]
WITH_MODELS = [name for name, row in FRAMEWORKS.items() if row.models]


@cache
def answers_of(name: str, folder: Path) -> dict[str, str]:
    """All that a framework answers; the test is skipped where it is not installed."""
    row = FRAMEWORKS[name]
    missing = row.missing()
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    return in_a_process(row, folder) if row.environment else answers(row)


def in_a_process(row: Framework, folder: Path) -> dict[str, str]:
    out = folder / "answers.json"
    paths = [str(ROOT / part) for part in (".", "src", "adapters")]
    environment = {**os.environ, **row.environment, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "tests.support.frameworks.worker", row.name, str(out)]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(out.read_text("utf-8"))
    return found


@pytest.fixture
def answered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    """The answers of the framework that the test is for."""
    name = request.param
    return FRAMEWORKS[name], answers_of(name, tmp_path_factory.getbasetemp())


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


all_frameworks = pytest.mark.parametrize("answered", FRAMEWORKS, indirect=True)
frameworks_with_models = pytest.mark.parametrize("answered", WITH_MODELS, indirect=True)
Answered = tuple[Framework, dict[str, str]]


@cache
def numpys(dtypes: tuple[str, ...]) -> dict[str, str]:
    """NumPy's answers, drawn here: digests, and refusals in the words that all must use."""
    return {question: drawn(Numpy(), draw) for question, draw in draws(dtypes).items()}


def test_every_public_initializer_is_asked_for() -> None:
    asked = set().union(*(classes_in(draw[0]) for draw in draws(("float32",)).values()))
    assert public_initializers() - asked == {*NOT_ELEMENTWISE}


@all_frameworks
def test_every_elementwise_initializer_gives_numpys_bytes(answered: Answered) -> None:
    row, said = answered
    expected = numpys(row.dtypes)
    digests = [text for text in expected.values() if "Error" not in text]
    assert len(digests) >= 75 * len(row.dtypes)
    wrong = {q: said[f"draw {q}"] for q in expected if said[f"draw {q}"] != expected[q]}
    assert not wrong


@all_frameworks
def test_what_is_no_key_is_refused_in_words(answered: Answered) -> None:
    _, said = answered
    for key in WRONG_KEYS:
        assert said[f"draw with {key!r}"].startswith("TypeError: ")
        assert "key" in said[f"draw with {key!r}"]


@frameworks_with_models
def test_a_whole_model_holds_what_numpy_draws_for_each_name(answered: Answered) -> None:
    row, said = answered
    for dtype in row.dtypes:
        for rule in NET.rules:
            values = rule.initializer(
                KEY.fold_in(rule.key_name), rule.shape or (), dtype, layout=rule.torch_layout
            )
            assert said[f"model {rule.name}, {dtype}"] == digest(values), rule.name
        assert said[f"model is filled in place, {dtype}"] == str(row.in_place)


NAMED = {
    "no key": ("TypeError", "key"),
    "a name missing": ("RecipeError", "fc"),
    "a name too many": ("RecipeError", "head.weight"),
    "another shape": ("RecipeError", "(9, 4)"),
    "no recipe": ("TypeError", "portinit.Recipe"),
}


@frameworks_with_models
@pytest.mark.parametrize("misfit", MISFITS)
def test_a_misfit_is_named_before_anything_is_written(answered: Answered, misfit: str) -> None:
    row, said = answered
    if misfit == "a name too many" and not row.matches:
        pytest.skip("a recipe may say more than the model has")
    kind, word = NAMED[misfit]
    assert said[f"model, {misfit}"].startswith(f"{kind}: ")
    assert word in said[f"model, {misfit}"]
    assert said[f"model after {misfit}"] == "True"
