"""The plans of the last model are kept with its recipe, and serve no other model or request."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import portinit
import portinit_flax
from portinit.arrays.layouts import LAYOUTS
from portinit.recipes.matching import plans
from portinit.recipes.matching.request import MatchRequest
from portinit_flax.matching import FlaxTree


def leaf(*shape: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype)


def rule(name: str, shape: tuple[int, ...]) -> portinit.Rule:
    return portinit.Rule(name, portinit.normal(), shape=shape)


@pytest.fixture
def matched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list that grows by one with each matching."""
    found: list[Any] = []
    matcher = plans.Matcher

    def counted(*arguments: Any) -> Any:
        found.append(arguments)
        return matcher(*arguments)

    monkeypatch.setattr(plans, "Matcher", counted)
    return found


def model() -> dict[str, Any]:
    return {"fc": {"kernel": leaf(8, 4), "bias": leaf(4)}}


def recipe() -> portinit.Recipe:
    return portinit.Recipe([rule("fc.weight", (4, 8)), rule("fc.bias", (4,))])


def equal(a: Any, b: Any) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))


def test_a_model_of_the_same_form_is_matched_once(matched: list[Any]) -> None:
    one = recipe()
    for seed in range(3):
        key = portinit.key(seed)
        found = portinit_flax.initialize(model(), one, key)
        assert equal(found, portinit_flax.initialize(model(), recipe(), key))
    assert len(matched) == 1 + 3  # once for the kept recipe, and each time for a new one


OTHERS: dict[str, Callable[[], dict[str, Any]]] = {
    "another shape": lambda: {"fc": {"kernel": leaf(8, 5), "bias": leaf(5)}},
    "one array more": lambda: {**model(), "head": {"kernel": leaf(8, 4)}},
    "one array less": lambda: {"fc": {"kernel": leaf(8, 4)}},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_does_not_fit_is_an_error_after_what_did(other: Callable[[], dict[str, Any]]) -> None:
    one = recipe()
    portinit_flax.initialize(model(), one, portinit.key(0))
    with pytest.raises(portinit.RecipeError):
        portinit_flax.initialize(other(), one, portinit.key(0))


def test_another_dtype_gets_its_own_values(matched: list[Any]) -> None:
    one = recipe()
    portinit_flax.initialize(model(), one, portinit.key(0))
    narrow = jax.tree.map(lambda s: leaf(*s.shape, dtype=jnp.bfloat16), model())
    found = portinit_flax.initialize(narrow, one, portinit.key(0))
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(jnp.bfloat16)}
    assert len(matched) == 2


def test_a_table_is_followed_after_a_call_without_one(matched: list[Any]) -> None:
    square = {"fc": {"kernel": leaf(4, 4)}}
    one = portinit.Recipe([("*", portinit.normal())])
    key = portinit.key(0)
    before = portinit_flax.initialize(square, one, key)
    table = {"fc/kernel": ("fc.weight", LAYOUTS["torch"])}
    stated = portinit_flax.initialize(square, one, key, table)
    assert equal(before, {"k": stated["fc"]["kernel"].T})
    assert equal(before, portinit_flax.initialize(square, one, key))
    assert len(matched) == 2


def test_classes_count_where_paths_and_shapes_are_equal(matched: list[Any]) -> None:
    class Plain(nnx.Module):
        def __init__(self, of: type) -> None:
            self.layer = of()

    class Kernel(nnx.Module):
        def __init__(self) -> None:
            self.kernel = nnx.Param(jnp.zeros((8, 4)))

    one = portinit.Recipe([("*", portinit.normal())])
    portinit_flax.initialize(
        Plain(lambda: nnx.Linear(8, 4, use_bias=False, rngs=nnx.Rngs(0))), one, portinit.key(0)
    )
    portinit_flax.initialize(Plain(Kernel), one, portinit.key(0))
    assert len(matched) == 2


def test_a_guess_is_warned_of_each_time(matched: list[Any]) -> None:
    square = {"a": {"weight": leaf(4, 4)}}
    one = portinit.Recipe([rule("a.weight", (4, 4))])
    for _ in range(2):
        with pytest.warns(UserWarning, match="matched by a guess"):
            portinit_flax.initialize(square, one, portinit.key(0))
    assert len(matched) == 2


def test_a_scheme_that_matches_nothing_is_warned_of_each_time() -> None:
    one = portinit.recipes.deepnorm(2) + portinit.Recipe([("*", portinit.zeros)])
    for _ in range(2):
        with pytest.warns(UserWarning, match="deepnorm"):
            portinit_flax.initialize(model(), one, portinit.key(0))


def test_the_order_of_definition_is_asked_each_time() -> None:
    """It may be another with the same paths and shapes, and tells apart what names do not."""
    one = portinit.Recipe([rule(f"{name}.weight", (4, 8)) for name in ("in_", "mid", "out_")])
    key = portinit.key(0)
    for names in (("y", "x", "z"), ("z", "y", "x")):
        tree = {name: {"kernel": leaf(8, 4)} for name in names}
        with pytest.warns(UserWarning, match="guess"):
            filled = portinit_flax.initialize(tree, one, key)
        wanted = portinit.normal()(key.fold_in("in_.weight"), (8, 4))
        assert np.array_equal(filled[names[0]]["kernel"], wanted)


def test_what_reads_a_file_is_asked_anew(tmp_path: Path) -> None:
    file = tmp_path / "weights.npz"
    np.savez(file, bias=np.ones(4))
    one = portinit.Recipe(
        [
            rule("fc.weight", (4, 8)),
            portinit.Rule("fc.bias", portinit.from_file(file, "bias"), shape=(4,)),
        ]
    )
    portinit_flax.initialize(model(), one, portinit.key(0))
    np.savez(file, bias=np.ones(5))
    with pytest.raises(portinit.RecipeError, match="fc/bias"):
        portinit_flax.initialize(model(), one, portinit.key(0))


def test_a_class_of_the_users_is_bound_each_time() -> None:
    std = 1.0

    @dataclass(frozen=True)
    class scaled(portinit.Initializer):
        def bound(self, parameter: portinit.Parameter) -> portinit.Initializer:
            return portinit.normal(std=std)

    one = portinit.Recipe([("*", scaled())])
    first = portinit_flax.initialize(model(), one, portinit.key(0))
    std = 2.0
    second = portinit_flax.initialize(model(), one, portinit.key(0))
    assert equal(jax.tree.map(lambda x: 2 * x, first), second)


def test_all_that_a_tree_was_made_of_counts() -> None:
    class Told(FlaxTree):
        told = ""

    one, request = recipe(), MatchRequest()
    trees = [Told.of(model()) for _ in range(3)]
    trees[2].told = "more"
    first, second, third = (plans.leaf_plans(tree, one, request) for tree in trees)
    assert all(a is b for a, b in zip(first, second, strict=True))
    assert not any(a is b for a, b in zip(first, third, strict=True))


def test_a_copied_recipe_keeps_what_a_subclass_adds() -> None:
    class Titled(portinit.Recipe):
        pass

    one = Titled(recipe().rules)
    object.__setattr__(one, "title", "mine")
    portinit_flax.initialize(model(), one, portinit.key(0))
    for other in (copy.copy(one), copy.deepcopy(one)):
        assert vars(other) == {"rules": one.rules, "program": None, "title": "mine"}


def test_a_pickled_recipe_takes_no_plans_along() -> None:
    one = recipe()
    portinit_flax.initialize(model(), one, portinit.key(0))
    read = pickle.loads(pickle.dumps(one))
    assert read == one
    assert vars(read).keys() == {"rules", "program"}
