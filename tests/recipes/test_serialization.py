"""Initializers and layouts as JSON: what is written comes back, and nothing else gets in."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import portinit
from portinit import Initializer, Layout, Recipe, RecipeError, layers
from portinit.arrays.layouts import LAYOUTS
from portinit.recipes.serialization import (
    initializer_from_data,
    initializer_to_data,
    layout_from_data,
    layout_to_data,
)

INITIALIZERS: list[Initializer] = [
    portinit.uniform(),
    portinit.uniform(-0.1, 0.3),
    portinit.normal(),
    portinit.normal(mean=-0.5, std=1e-30),
    portinit.normal(std=0.1 + 0.2),
    portinit.trunc_normal(std=0.02),
    portinit.trunc_normal(0.5, 2.0, -math.inf, math.inf),
    portinit.truncated_normal(),
    portinit.truncated_normal(0.5, -1.0, math.inf),
    portinit.xavier_uniform(),
    portinit.xavier_normal(gain=5 / 3),
    portinit.kaiming_uniform(a=math.sqrt(5)),
    portinit.kaiming_normal(mode="fan_out", nonlinearity="relu"),
    portinit.kaiming_normal(nonlinearity=1.7015),
    portinit.kaiming_uniform(nonlinearity=math.tanh),
    portinit.variance_scaling(0.3, "fan_geo_avg", "uniform", (0, 1), -1, (2,)),
    portinit.glorot_normal(),
    portinit.glorot_uniform(in_axis=(0, 1)),
    portinit.he_normal(batch_axis=0),
    portinit.he_uniform(),
    portinit.lecun_normal(out_axis=(-1, -3)),
    portinit.lecun_uniform(),
    portinit.constant(),
    portinit.constant(-0.0),
    portinit.constant(math.inf),
    portinit.constant(-math.inf),
    portinit.constant(3),
    portinit.zeros,
    portinit.ones,
    portinit.zeros_init(),
    portinit.ones_init(),
    portinit.eye(),
    portinit.dirac(groups=2),
    portinit.orthogonal(gain=1.5),
    portinit.delta_orthogonal(scale=0.5),
    portinit.sparse(0.25),
    portinit.sparse(sparsity=0.9, std=2.0),
    portinit.scaled(portinit.orthogonal(), -0.5),
    portinit.like_jax(portinit.lecun_normal()),
    portinit.blocks((portinit.zeros, portinit.ones)),
    portinit.blocks([portinit.normal(), portinit.eye()], sizes=[3, 4], axis=1),
    portinit.where(0, portinit.zeros, portinit.normal()),
    portinit.where(-1, portinit.zeros, portinit.normal()),
    portinit.where(np.s_[:, 4:8], portinit.ones, portinit.zeros),
    portinit.where(np.s_[2:, -3, :-1], portinit.ones, portinit.zeros),
    portinit.siren(omega=5, first=True),
    portinit.spectral(0.5),
    portinit.sinusoids(100),
    portinit.sinusoids_2d(100, columns=3),
    layers.weight_norm_magnitude(portinit.normal(), (3, 4)),
    portinit.hippo(),
    portinit.progression(1, 0.5, log=True),
    portinit.mamba_dt_bias(0.01, 0.5),
    portinit.hadamard(),
    portinit.icnr(portinit.kaiming_normal(), scale=3),
    portinit.bilinear_upsampling(),
    portinit.assign([[1, 2], [3, 4]]),
    portinit.assign(np.array(0.1)),
    portinit.assign(np.zeros((0, 3), np.float16)),
    portinit.assign(np.array([math.nan, math.inf, -0.0], np.float32)),
    portinit.assign(np.array([1 + 2j], np.complex64)),
    portinit.assign([True, False]),
    portinit.from_safetensors("weights/base.safetensors", "layers.0.weight"),
    portinit.from_file("weights/base.pt", "layers.0.weight", section="model"),
    portinit.from_file("base.npz", "conv/kernel", portinit.Layout((-1,), (-2,), flip=True)),
    portinit.recurrent.gates((portinit.zeros, portinit.constant(2.0))),
    portinit.recurrent.chrono(100),
    portinit.recurrent.shifted(portinit.recurrent.log_uniform(9.5), -4),
    layers.linear_weight(),
    layers.conv_weight(),
    layers.linear_bias(),
    layers.conv_bias(36),
    layers.recurrent(16),
    layers.attention_in_proj(),
    layers.embedding(),
    layers.embedding(padding_idx=3),
    layers.padded(portinit.normal()),
    layers.per_gate(portinit.orthogonal()),
    layers.prelu(),
    portinit.scaled(
        portinit.blocks(
            (
                portinit.where(np.s_[1:, 0], layers.padded(portinit.zeros), portinit.normal(1, 2)),
                portinit.scaled(portinit.assign([[1.5]]), 2),
            ),
            sizes=(1, 1),
        ),
        1e-8,
    ),
]


def through_text(initializer: Initializer) -> tuple[str, Initializer]:
    text = json.dumps(initializer_to_data(initializer))
    return text, initializer_from_data(json.loads(text))


@pytest.mark.parametrize("initializer", INITIALIZERS, ids=str)
def test_an_initializer_comes_back_from_json(initializer):
    text, back = through_text(initializer)
    assert back == initializer
    assert type(back) is type(initializer)
    assert repr(back) == repr(initializer)  # tells -0.0 from 0.0 and ints from floats
    assert hash(back) == hash(initializer)
    assert "NaN" not in text
    assert "Infinity" not in text


def test_every_public_initializer_is_in_the_table():
    public = {
        name
        for name in dir(portinit)
        if isinstance(value := getattr(portinit, name), type)
        and issubclass(value, Initializer)
        and value is not Initializer
    }
    covered = {type(part).__name__ for initializer in INITIALIZERS for part in walk(initializer)}
    assert public - covered == set()


def walk(initializer: Initializer) -> list[Initializer]:
    parts = [value for value in vars(initializer).values() if isinstance(value, Initializer)]
    return [initializer, *(deeper for part in parts for deeper in walk(part))]


@pytest.mark.parametrize("name", ["inf", "-inf"])
def test_a_tensor_may_be_called_inf(name):
    initializer = portinit.from_safetensors("weights.safetensors", name)
    assert through_text(initializer)[1] == initializer


@pytest.mark.parametrize(
    "initializer",
    [
        portinit.normal(std=np.float32(0.5)),
        portinit.constant(np.float64(0.5)),
        portinit.sparse(np.float16(0.5)),
        portinit.dirac(np.int64(2)),
        portinit.blocks((portinit.zeros,), sizes=(np.int32(3),), axis=np.int64(1)),
        portinit.variance_scaling(1.0, "fan_in", "normal", (np.int64(0),)),
        portinit.where(np.int64(0), portinit.zeros, portinit.ones),
        portinit.where(slice(np.int64(0), np.int64(2)), portinit.zeros, portinit.ones),
    ],
    ids=str,
)
def test_arguments_may_be_numpy_scalars(initializer):
    assert through_text(initializer)[1] == initializer


def test_zeros_and_ones_come_back_as_themselves():
    assert through_text(portinit.zeros)[1] is portinit.zeros
    assert through_text(portinit.ones)[1] is portinit.ones
    assert initializer_to_data(portinit.zeros) == {"init": "zeros"}


def test_the_data_are_the_call_spelled_out():
    data = initializer_to_data(portinit.scaled(portinit.trunc_normal(a=-math.inf), 0.5))
    inner = {"init": "trunc_normal", "mean": 0.0, "std": 1.0, "a": "-inf", "b": 2.0}
    assert data == {"init": "scaled", "initializer": inner, "factor": 0.5}


def test_arguments_with_defaults_may_be_left_out():
    assert initializer_from_data({"init": "normal", "std": 0.02}) == portinit.normal(std=0.02)


def test_assigned_values_are_little_endian_base64():
    data = initializer_to_data(portinit.assign(np.array([1.0, -2.0], np.float32)))
    assert data == {"init": "assigned", "dtype": "float32", "shape": [2], "data": "AACAPwAAAMA="}


def test_an_initializer_of_ones_own_is_not_written():
    class mine(Initializer):
        pass

    with pytest.raises(TypeError, match="mine"):
        initializer_to_data(mine())


def test_an_initializer_of_a_known_name_is_not_mistaken_for_it():
    class normal(Initializer):
        pass

    with pytest.raises(TypeError, match="normal"):
        initializer_to_data(normal())


def test_nan_is_written_as_text():
    written = Recipe([("*", portinit.constant(math.nan))]).to_json()

    def no_token(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    assert json.loads(written, parse_constant=no_token)["rules"][0]["initializer"]["val"] == "nan"
    (rule,) = Recipe.from_json(written).rules
    assert math.isnan(rule.initializer.val)


BAD_INITIALIZERS: dict[str, Any] = {
    "null": None,
    "a number": 3,
    "a list": [],
    "text": "zeros",
    "no init": {"std": 1.0},
    "init is null": {"init": None},
    "init is a list": {"init": ["zeros"]},
    "init is an object": {"init": {"init": "zeros"}},
    "unknown name": {"init": "gaussian"},
    "a python name": {"init": "__import__"},
    "a base class": {"init": "Initializer"},
    "a private class": {"init": "_Fixed", "val": 0.0},
    "a factory, not a class": {"init": "glorot_normal"},
    "unknown argument": {"init": "normal", "sigma": 1.0},
    "an argument for zeros": {"init": "zeros", "val": 0.0},
    "missing argument": {"init": "sparse"},
    "missing part": {"init": "scaled", "factor": 2.0},
    "text for a number": {"init": "normal", "std": "0.02"},
    "null for a number": {"init": "normal", "std": None},
    "list for a number": {"init": "normal", "std": [1.0]},
    "object for a number": {"init": "normal", "std": {}},
    "initializer for a number": {"init": "normal", "std": {"init": "zeros"}},
    "text for a constant": {"init": "constant", "val": "abc"},
    "list for a constant": {"init": "constant", "val": [1]},
    "null for a constant": {"init": "constant", "val": None},
    "initializer for a constant": {"init": "constant", "val": {"init": "zeros"}},
    "negative std": {"init": "normal", "std": -1.0},
    "infinite std": {"init": "normal", "std": "inf"},
    "a number for a mode": {"init": "kaiming_normal", "mode": 3},
    "unknown mode": {"init": "kaiming_normal", "mode": "fan_sideways"},
    "list for a nonlinearity": {"init": "kaiming_normal", "nonlinearity": ["relu"]},
    "null for a nonlinearity": {"init": "kaiming_normal", "nonlinearity": None},
    "text for a slope": {"init": "kaiming_normal", "a": "x"},
    "unknown distribution": {
        "init": "variance_scaling",
        "scale": 1.0,
        "mode": "fan_in",
        "distribution": "cauchy",
    },
    "text for axes": {
        "init": "variance_scaling",
        "scale": 1.0,
        "mode": "fan_in",
        "distribution": "normal",
        "in_axis": "0",
    },
    "text for groups": {"init": "dirac", "groups": "2"},
    "half a group": {"init": "dirac", "groups": 2.5},
    "half a fan_in": {"init": "fan_in_uniform", "fan_in": 2.5},
    "a fan_in of 0": {"init": "fan_in_uniform", "fan_in": 0},
    "a number to scale": {"init": "scaled", "initializer": 3, "factor": 1.0},
    "a number to pad": {"init": "padded", "initializer": 3},
    "a number for each gate": {"init": "per_gate", "initializer": 3},
    "one initializer for blocks": {"init": "blocks", "initializers": {"init": "zeros"}},
    "numbers for blocks": {"init": "blocks", "initializers": [1, 2]},
    "no blocks": {"init": "blocks", "initializers": []},
    "text for an axis": {"init": "blocks", "initializers": [{"init": "zeros"}], "axis": "x"},
    "text for sizes": {"init": "blocks", "initializers": [{"init": "zeros"}], "sizes": "3"},
    "text for an index": {
        "init": "where",
        "index": ["x"],
        "inside": {"init": "zeros"},
        "outside": {"init": "ones"},
    },
    "texts for a slice": {
        "init": "where",
        "index": [["x", "y"]],
        "inside": {"init": "zeros"},
        "outside": {"init": "ones"},
    },
    "bad base64": {"init": "assigned", "dtype": "float32", "shape": [1], "data": "AAA"},
    "not base64": {"init": "assigned", "dtype": "float32", "shape": [1], "data": "é!"},
    "a number for base64": {"init": "assigned", "dtype": "float32", "shape": [1], "data": 5},
    "lists for base64": {"init": "assigned", "dtype": "float32", "shape": [1], "data": ["AA=="]},
    "too little data": {"init": "assigned", "dtype": "float32", "shape": [3], "data": "AAAAAA=="},
    "unknown dtype": {"init": "assigned", "dtype": "quux", "shape": [1], "data": "AAAAAA=="},
    "dtype of objects": {"init": "assigned", "dtype": "O", "shape": [1], "data": "AAAAAAAAAAA="},
    "negative shape": {"init": "assigned", "dtype": "float32", "shape": [-1], "data": "AAAAAA=="},
    "text for a shape": {"init": "assigned", "dtype": "float32", "shape": "1", "data": "AAAAAA=="},
    "a number for a file": {"init": "from_safetensors", "file": 3, "name": "a"},
    "a number for a tensor": {"init": "from_safetensors", "file": "a", "name": 3},
    "too large for a float": {"init": "normal", "std": 10**400},
    "too large to square": {"init": "kaiming_uniform", "a": 1e200},
    "a bad part deep inside": {
        "init": "blocks",
        "initializers": [{"init": "scaled", "initializer": {"init": "nope"}, "factor": 1}],
    },
}


@pytest.mark.parametrize("data", BAD_INITIALIZERS.values(), ids=BAD_INITIALIZERS)
def test_bad_initializer_data_are_a_value_error(data):
    with pytest.raises(ValueError, match=r"\w"):
        initializer_from_data(data)


@pytest.mark.parametrize("name", ["null", "unknown argument", "text for a number", "bad base64"])
def test_a_recipe_of_bad_initializer_data_names_the_rule(name):
    data = BAD_INITIALIZERS[name]
    rules = [{"name": "a", "initializer": {"init": "zeros"}}, {"name": "b", "initializer": data}]
    with pytest.raises(RecipeError, match="rule 1"):
        Recipe.from_json(json.dumps({"portinit": 1, "rules": rules}))


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"kaiming_normal.*zeros.*'gaussian'"):
        initializer_from_data({"init": "gaussian"})


LAYOUT_TABLE = [
    Layout(),
    *LAYOUTS.values(),
    Layout(axis0=(1, 2), axis1=(0,)),
    Layout(axis0=(0, 1), axis1=()),
    Layout(axis0=(-1,), axis1=(-2,), flip=True, roles="io"),
]


@pytest.mark.parametrize("layout", LAYOUT_TABLE, ids=str)
def test_a_layout_comes_back_from_json(layout):
    assert layout_from_data(json.loads(json.dumps(layout_to_data(layout)))) == layout


def test_known_layouts_are_written_by_name():
    assert layout_to_data(Layout(axis0=(-1,), axis1=(-2,))) == "flax"
    assert layout_to_data(Layout(roles="as is")) == "rows"


BAD_LAYOUTS: dict[str, Any] = {
    "null": None,
    "unknown name": "keras",
    "a number": 3,
    "a list": [0, 1],
    "unknown field": {"axis2": [2]},
    "a number for axes": {"axis0": 0},
    "text for axes": {"axis0": "0"},
    "halves for axes": {"axis0": [0.5]},
    "no axis 0": {"axis0": []},
    "text for flip": {"flip": "yes"},
    "unknown roles": {"roles": "ii"},
    "list for roles": {"roles": ["o", "i"]},
    "object for roles": {"roles": {}},
}


@pytest.mark.parametrize("data", BAD_LAYOUTS.values(), ids=BAD_LAYOUTS)
def test_bad_layout_data_are_a_value_error(data):
    with pytest.raises(ValueError, match=r"\w"):
        layout_from_data(data)


BAD_RECIPES: dict[str, str] = {
    "empty": "",
    "not json": "{",
    "a list": "[]",
    "a number": "1",
    "no version": '{"rules": []}',
    "no rules": '{"portinit": 1}',
    "rules is an object": '{"portinit": 1, "rules": {}}',
    "rules is text": '{"portinit": 1, "rules": "*"}',
    "version is text": '{"portinit": "1", "rules": []}',
    "version is a list": '{"portinit": [1], "rules": []}',
    "a rule is a list": '{"portinit": 1, "rules": [["*", {"init": "zeros"}]]}',
    "a rule is null": '{"portinit": 1, "rules": [null]}',
    "a rule without a name": '{"portinit": 1, "rules": [{"initializer": {"init": "zeros"}}]}',
    "a rule without initializer": '{"portinit": 1, "rules": [{"name": "*"}]}',
    "too deep to parse": '{"portinit": 1, "rules": ' + "[" * 200_000,
    "too deep to build": '{"portinit": 1, "rules": [{"name": "*", "initializer": '
    + '{"init": "scaled", "factor": 1, "initializer": ' * 500
    + '{"init": "zeros"}'
    + "}" * 500
    + "}]}",
    "a number of too many digits": '{"portinit": ' + "1" * 5000 + ', "rules": []}',
}


@pytest.mark.parametrize("text", BAD_RECIPES.values(), ids=BAD_RECIPES)
def test_bad_recipe_text_is_a_recipe_error(text):
    with pytest.raises(RecipeError):
        Recipe.from_json(text)


BAD_FIELDS: dict[str, tuple[str, Any]] = {
    "name is a number": ("name", 3),
    "name is a list": ("name", ["*"]),
    "kind is a number": ("kind", 5),
    "kind is a list": ("kind", ["conv"]),
    "shape is a number": ("shape", 3),
    "shape is text": ("shape", "34"),
    "shape of halves": ("shape", [0.5]),
    "shape of nulls": ("shape", [None]),
    "shape is negative": ("shape", [-1, 2]),
    "layout is unknown": ("layout", "keras"),
    "layout is a number": ("layout", 3),
    "unknown field": ("pattern", "*"),
}


@pytest.mark.parametrize(("field", "value"), BAD_FIELDS.values(), ids=BAD_FIELDS)
def test_a_bad_field_of_a_rule_is_a_recipe_error(field, value):
    rule = {"name": "*", "initializer": {"init": "zeros"}, field: value}
    with pytest.raises(RecipeError, match="rule 0"):
        Recipe.from_json(json.dumps({"portinit": 1, "rules": [rule]}))


@pytest.mark.parametrize("version", [2, 17])
def test_a_newer_schema_says_so(version):
    with pytest.raises(RecipeError, match=rf"schema 1.*{version}.*newer"):
        Recipe.from_json(json.dumps({"portinit": version, "rules": []}))


# Fuzz. Nothing but a RecipeError may come out of any text, and what is read can be written.

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**320), 10**320),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from([10**400, 1e200, -1e200, 2**64, -1]),
    st.sampled_from(["inf", "-inf", "*", "zeros", "normal", "kaiming_normal", "flax", "AAAA"]),
)
FIELDS = st.sampled_from(
    ["init", "name", "initializer", "layout", "shape", "kind", "std", "val", "axis0", "a", "index"]
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=8,
)
FUZZ = settings(max_examples=300, derandomize=True, database=None, deadline=None)


def read_or_refuse(data: Any) -> Recipe | None:
    try:
        return Recipe.from_json(json.dumps(data))
    except RecipeError:
        return None


@FUZZ
@given(JSON)
def test_random_json_is_read_or_refused(data):
    read_or_refuse(data)


@FUZZ
@given(st.lists(JSON, max_size=2))
def test_random_rules_are_read_or_refused(rules):
    read_or_refuse({"portinit": 1, "rules": rules})


def places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in JSON data."""
    if not isinstance(data, dict | list):
        return [path]
    below = data.items() if isinstance(data, dict) else enumerate(data)
    return [path, *(found for key, value in below for found in places(value, (*path, key)))]


def mutated(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = mutated(data[path[0]], path[1:], value)
    return copy


VALID = json.loads(Recipe([("*", initializer) for initializer in INITIALIZERS]).to_json())["rules"]


@settings(FUZZ, max_examples=1500)
@given(st.sampled_from(VALID), JSON, st.randoms(use_true_random=False))
def test_a_valid_rule_with_one_value_changed_is_read_or_refused(rule, value, random):
    changed = mutated(rule, random.choice([p for p in places(rule) if p]), value)
    read_or_refuse({"portinit": 1, "rules": [changed]})


@settings(FUZZ, max_examples=500)
@given(st.sampled_from(VALID), JSON, st.randoms(use_true_random=False))
def test_what_is_read_is_written_and_read_the_same(rule, value, random):
    changed = mutated(rule, random.choice([p for p in places(rule) if p]), value)
    recipe = read_or_refuse({"portinit": 1, "rules": [changed]})
    if recipe is not None:
        assert Recipe.from_json(recipe.to_json()) == recipe
