"""Each form of a table of names, from Python and from a file's JSON, filled and compared."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import portinit
import portinit_flax
import portinit_torch
from portinit.recipes.matching.assembly import host_arrays
from portinit.recipes.matching.tables.files import Names
from portinit_flax.matching import MatchRequest, leaf_plans

KEY = portinit.key(5)
N = 8


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.q = torch.nn.Linear(N, N)
        self.k = torch.nn.Linear(N, N)
        self.packed = torch.nn.Linear(N, 3 * N)
        self.c_attn = torch.nn.Parameter(torch.randn(N, 3 * N))


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.ModuleList(Block() for _ in range(2))
        self.pooler = torch.nn.Linear(N, N)


def weight(state, name):
    return state[name].numpy()


W = (N, N)
FORMS = {
    "one array": (
        {"x/kernel": "body.0.q.weight"},
        {"x/kernel": lambda s: s["body.0.q.weight"].T},
    ),
    "a layout by name": (
        {"x/kernel": ["body.0.q.weight", "torch"]},
        {"x/kernel": lambda s: s["body.0.q.weight"]},
    ),
    "a module": (
        {"x/y": "body.0.q"},
        {"x/y/kernel": lambda s: s["body.0.q.weight"].T, "x/y/bias": lambda s: s["body.0.q.bias"]},
    ),
    "all layers": (
        {"x_*/y": "body.*.q"},
        {f"x_{i}/y/kernel": lambda s, i=i: s[f"body.{i}.q.weight"].T for i in range(2)},
    ),
    "rows": (
        {"k/kernel": ["body.0.packed.weight[8:16]", "flax"]},
        {"k/kernel": lambda s: s["body.0.packed.weight"][8:16].T},
    ),
    "columns": (
        {"k": ["body.1.c_attn[:, 8:16]", "torch"]},
        {"k": lambda s: s["body.1.c_attn"][:, 8:16]},
    ),
    "every other row": (
        {"gate": ["body.1.packed.weight[1:24:2]", "flax"]},
        {"gate": lambda s: s["body.1.packed.weight"][1::2].T},
    ),
    "a stack": (
        {"qk": {"stack": [["body.0.q.weight", "flax"], ["body.0.k.weight", "torch"]], "axis": 1}},
        {"qk": lambda s: torch.stack([s["body.0.q.weight"].T, s["body.0.k.weight"]], 1)},
    ),
    "all layers along an axis": (
        {"q": {"stack": "body.*.q.weight", "axis": -1, "layout": "flax"}},
        {"q": lambda s: torch.stack([s[f"body.{i}.q.weight"].T for i in range(2)], -1)},
    ),
    "side by side": (
        {"qk": {"concat": [["body.0.q.weight", "flax"], ["body.0.k.weight", "flax"]], "axis": -1}},
        {"qk": lambda s: torch.cat([s["body.0.q.weight"], s["body.0.k.weight"]]).T},
    ),
    "a stack of joins, one of them padded": (
        {
            "x": {
                "stack": [
                    {"concat": ["body.0.q.bias", {"init": "ones"}]},
                    {"concat": ["body.0.k.bias", "body.1.k.bias"]},
                ]
            }
        },
        {
            "x": lambda s: torch.stack(
                [
                    torch.cat([s["body.0.q.bias"], torch.ones(N)]),
                    torch.cat([s["body.0.k.bias"], s["body.1.k.bias"]]),
                ]
            )
        },
    ),
    "rotary rows": (
        {"q": ["body.0.q.weight", {"axis0": [1, 3, 2], "axis1": [0], "view": [N, 2, 2, 2]}]},
        {"q": lambda s: s["body.0.q.weight"].reshape(2, 2, 2, N).transpose(1, 2).reshape(N, N).T},
    ),
    "elements": (
        {
            "q": {
                "of": "body.0.q.bias",
                "elements": {"start": 1, "sizes": [3], "strides": [[0, 4, 2]]},
            }
        },
        {"q": lambda s: s["body.0.q.bias"][[1, 5, 3]]},
    ),
    "pieces": (
        {
            "q": {
                "pieces": [
                    {
                        "of": f"body.{i}.q.bias",
                        "elements": {"sizes": [N], "strides": [1]},
                        "to": {"start": i, "sizes": [N], "strides": [2]},
                    }
                    for i in range(2)
                ]
            }
        },
        {"q": lambda s: torch.stack([s["body.0.q.bias"], s["body.1.q.bias"]], 1).reshape(-1)},
    ),
    "copies": (
        {"a": ["body.0.q.weight", "torch"], "b": ["body.0.q.weight", "flax"]},
        {"a": lambda s: s["body.0.q.weight"], "b": lambda s: s["body.0.q.weight"].T},
    ),
    "what only Flax has": (
        {"*/key/bias": {"init": "zeros"}},
        {"x/key/bias": lambda s: torch.zeros(3)},
    ),
}


@pytest.fixture(scope="module")
def filled():
    model, recipe = Model(), portinit_torch.trace(Model)
    portinit_torch.initialize(model, recipe, KEY)
    return model.state_dict(), recipe


@pytest.mark.parametrize("form", FORMS)
def test_a_form_fills_what_it_says(form, filled):
    state, recipe = filled
    table, wanted = FORMS[form]
    arrays = {path: make(state).numpy() for path, make in wanted.items()}
    tree: dict = {}
    for path, array in arrays.items():
        *modules, leaf = path.split("/")
        node = tree
        for module in modules:
            node = node.setdefault(module, {})
        node[leaf] = jax.ShapeDtypeStruct(array.shape, jnp.float32)
    names = Names(table, ignore=("*",))
    again = Names.from_json(names.to_json())
    assert again.ignore == ("*",)
    for given in (names, again):
        result = portinit_flax.initialize(tree, recipe, KEY, given)
        matching = portinit_flax.match(tree, recipe, given)
        restated = portinit_flax.initialize(tree, recipe, KEY, matching.as_table())
        plans = leaf_plans(tree, recipe, MatchRequest.of(given))
        labels = {plan.leaf.position: "/".join(plan.leaf.array) for plan in plans}
        by_numpy = {labels[position]: array for position, array in host_arrays(plans, KEY)}
        for path, array in arrays.items():
            assert by_numpy[path].tobytes() == np.ascontiguousarray(array).tobytes(), path
            for one in (result, restated):
                for word in path.split("/"):
                    one = one[word]
                assert np.asarray(one).tobytes() == np.ascontiguousarray(array).tobytes(), path


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"x": "body.0.q.weight[0:9]"}, "needs a parameter that has it"),
        ({"x": ["body.0.q.weight[0:4]", "torch"]}, r"needs an array of \(4, 8\)"),
        (
            {"x": {"of": "body.0.q.bias", "elements": {"sizes": [64], "strides": [1]}}},
            "elements must be among 8",
        ),
        (
            {
                "x": {
                    "pieces": [
                        {
                            "of": "body.0.q.bias",
                            "elements": {"sizes": [8], "strides": [1]},
                            "to": {"sizes": [8], "strides": [1]},
                        }
                    ]
                }
            },
            "each of its 64 elements once",
        ),
        ({"x": {"stack": "body.*.q.weight", "axis": 0}}, "has no body.2.q.weight"),
    ],
)
def test_what_a_table_cannot_mean_is_listed(table, words, filled):
    recipe = filled[1]
    with pytest.raises(portinit.RecipeError, match=words):
        portinit_flax.initialize({"x": jnp.zeros(W)}, recipe, KEY, Names(table, ignore=("*",)))


@pytest.mark.parametrize("form", ["a stack of joins, one of them padded", "rotary rows", "pieces"])
def test_a_checkpoint_refuses_arrays_that_it_cannot_write(form, filled):
    state, recipe = filled
    table, wanted = FORMS[form]
    tree = {
        path: jax.ShapeDtypeStruct(make(state).shape, jnp.float32) for path, make in wanted.items()
    }
    with pytest.raises(portinit.RecipeError, match="parts of parameters, or several side by side"):
        portinit_flax.checkpoint_tensors(tree, recipe, names=Names(table, ignore=("*",)))
