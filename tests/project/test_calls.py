"""A small draw goes straight through the house: few calls, and few moves from file to file."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import portinit
from portinit_jax import host

ON_HOST = host.can_make_on_host  # before a fixture hides it

MOST = {"NumPy": (45, 20), "torch's face": (70, 30), "Flax's model": (300, 80)}
"""Calls and moves."""


@pytest.fixture(scope="module")
def count_calls() -> ModuleType:
    path = Path(__file__).parents[2] / "tools" / "count_calls.py"
    spec = importlib.util.spec_from_file_location("count_calls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("draw", MOST)
def test_a_small_draw_makes_few_calls(
    draw: str, count_calls: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "can_make_on_host", ON_HOST)
    calls, moves = count_calls.count(count_calls.DRAWS[draw]())
    most_calls, most_moves = MOST[draw]
    assert 10 < calls <= most_calls
    assert 5 < moves <= most_moves


def test_the_count_sees_every_call_but_the_ciphers(count_calls: ModuleType) -> None:
    key = portinit.key(0)
    assert count_calls.trail(lambda: key.words) == [("src/portinit/random/keys.py", "words")]
    names = {name for _, name in count_calls.trail(lambda: key.fold_in(1))}
    assert "fold_in" in names
    assert not names & {"threefry2x32", "_wrap32"}
