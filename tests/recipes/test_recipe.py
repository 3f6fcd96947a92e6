"""Recipes: which rule a parameter gets, by name and kind, and with which key."""

import hashlib
import pickle

import jax
import numpy as np
import pytest
import torch
from torch import nn

import portinit
import portinit_torch
from portinit import Layout, Parameter, Recipe, RecipeError, Rule, layers

KEY = portinit.key(2024)
ONE, TWO = portinit.constant(1.0), portinit.constant(2.0)


def chosen(recipe: Recipe, name: str, kind: str | None = None) -> object:
    rule = recipe.find(Parameter(name, (3, 2), kind))
    return None if rule is None else rule.initializer


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("*", "a.b.c", True),
        ("*", "", True),
        ("*.weight", "layers.0.linear.weight", True),
        ("*.weight", "weight", False),
        ("*weight", "weight", True),
        ("layers.*.weight", "layers.0.attn.proj.weight", True),
        ("layers.?.weight", "layers.1.weight", True),
        ("layers.?.weight", "layers.10.weight", False),
        ("bias_[kv]", "bias_v", True),
        ("bias_[kv]", "bias_q", False),
        ("bias_[!kv]", "bias_q", True),
        ("head.weight", "head.weight", True),
        ("head.weight", "my.head.weight", False),
        ("head.weight", "headxweight", False),
        ("Head.*", "head.weight", False),
        ("a[[]0].weight", "a[0].weight", True),
        ("a[[]0].weight", "a0.weight", False),
        ("what[?]", "what?", True),
        ("what[?]", "whatx", False),
        ("star[*]", "star*", True),
        ("star[*]", "stars", False),
        ("a[0].weight", "a0.weight", True),
        ("a[", "a[", True),
        ("line\n*", "line\nbreak", True),
    ],
)
def test_a_pattern_matches_the_whole_name(pattern, name, matches):
    assert (chosen(Recipe([(pattern, ONE)]), name) == ONE) is matches


def test_the_first_rule_that_matches_decides():
    recipe = Recipe([("a.*", ONE), ("*", TWO)])
    assert chosen(recipe, "a.weight") == ONE
    assert chosen(recipe, "b.weight") == TWO
    assert chosen(Recipe(recipe.rules[::-1]), "a.weight") == TWO


def test_a_kind_limits_a_rule():
    recipe = Recipe([Rule("*", ONE, kind="conv"), Rule("*", TWO, kind="linear")])
    assert chosen(recipe, "a", "conv") == ONE
    assert chosen(recipe, "a", "linear") == TWO
    assert chosen(recipe, "a", "norm") is None
    assert chosen(recipe, "a") is None


def test_a_rule_of_one_name_also_heeds_its_kind():
    assert chosen(Recipe([Rule("a", ONE, kind="conv"), ("a", TWO)]), "a", "norm") == TWO


def test_recipes_add_up_in_order():
    first, second = Recipe([("head.*", ONE)]), Recipe([("*", TWO)])
    both = first + second
    assert chosen(both, "head.weight") == ONE
    assert chosen(both, "body.weight") == TWO
    assert chosen(second + first, "head.weight") == TWO
    assert (first, second) == (Recipe([("head.*", ONE)]), Recipe([("*", TWO)]))


def test_names_are_those_of_rules_for_one_parameter():
    recipe = Recipe([("a.weight", ONE), ("*.bias", ONE), ("b[[]0]", ONE), ("c[0]", ONE)])
    assert recipe.names == ("a.weight", "b[0]")


@pytest.mark.parametrize("name", ["a[0].weight", "what?", "star*", "[", "]", "[[]", "a[!b]", "x.y"])
def test_binding_keeps_names_with_special_letters(name):
    bound = Recipe([("*", ONE)]).bind([Parameter(name, (2,))])
    assert bound.names == (name,)
    again = Recipe.from_json(bound.to_json())
    assert again.names == (name,)
    assert chosen_in_shape(again, name, (2,)) == ONE


def chosen_in_shape(recipe: Recipe, name: str, shape: tuple[int, ...]) -> object:
    return recipe.bind([Parameter(name, shape)]).rules[0].initializer


def test_a_bound_name_matches_nothing_else():
    bound = Recipe([("*", ONE)]).bind([Parameter("a[0]", (2,)), Parameter("b*", (2,))])
    assert chosen(bound, "a0") is None
    assert chosen(bound, "bc") is None


@pytest.mark.parametrize(
    "bad", [(3, ONE), ("*", 3), ("*", portinit.normal), ("*", None), (None, ONE)]
)
def test_a_rule_is_a_pattern_and_an_initializer(bad):
    with pytest.raises(TypeError, match=r"rule|initializer"):
        Recipe([bad])


def test_a_layout_may_be_named():
    rule = Recipe([("*", ONE, "rows")]).rules[0]
    assert rule.layout == Layout(roles="as is")
    with pytest.raises(ValueError, match="keras"):
        Rule("*", ONE, "keras")


def test_every_parameter_without_a_rule_is_listed():
    recipe = Recipe([("b.*", ONE), ("d", layers.fan_in_uniform())])
    parameters = [Parameter(name, (2, 3)) for name in ("a", "b.c", "c", "d")]
    with pytest.raises(RecipeError) as raised:
        recipe.bind(parameters)
    text = str(raised.value)
    assert "3 do not fit" in text
    for line in ("a (2, 3): no rule", "c (2, 3): no rule", "d needs a kernel"):
        assert line in text
    assert "b.c" not in text


@pytest.mark.parametrize(
    "initializer",
    [
        layers.fan_in_uniform(),
        portinit.scaled(layers.fan_in_uniform(), 0.5),
        layers.per_gate(portinit.orthogonal()),
    ],
    ids=str,
)
@pytest.mark.parametrize("fan_in", [None, 0])
def test_a_rule_that_cannot_be_filled_in_names_its_parameter(initializer, fan_in):
    parameter = Parameter("some.name", (2, 4), fan_in=fan_in)
    with pytest.raises(RecipeError, match=r"some\.name"):
        Recipe([("*", initializer)]).bind([parameter])


def test_gates_that_do_not_fit_name_their_parameter():
    recipe = Recipe([("*", layers.per_gate(portinit.orthogonal()))])
    with pytest.raises(RecipeError, match=r"some\.name"):
        recipe.bind([Parameter("some.name", (2, 4), fan_in=4)])


def test_another_shape_than_the_recipes_is_listed():
    bound = Recipe([("*", ONE)]).bind([Parameter("a", (2, 3)), Parameter("b", (4,))])
    with pytest.raises(RecipeError) as raised:
        bound.bind([Parameter("a", (3, 2)), Parameter("b", (4, 1))])
    assert "a: the recipe has (2, 3), got (3, 2)" in str(raised.value)
    assert "b: the recipe has (4,), got (4, 1)" in str(raised.value)


def test_a_recipe_error_is_a_value_error():
    assert issubclass(RecipeError, ValueError)


def test_binding_fills_in_what_the_model_knows():
    recipe = Recipe(
        [
            ("bias", layers.fan_in_uniform()),
            ("table", layers.padded(portinit.normal())),
            ("whole", layers.padded(portinit.normal())),
            ("gates", layers.per_gate(portinit.orthogonal())),
            ("deep", portinit.scaled(layers.fan_in_uniform(), 0.5)),
            ("parts", portinit.blocks((layers.fan_in_uniform(), layers.fan_in_uniform(9)))),
            ("given", layers.fan_in_uniform(7)),
        ]
    )
    bound = recipe.bind(
        [
            Parameter("bias", (4,), fan_in=36),
            Parameter("table", (5, 2), "embedding", padding_idx=3),
            Parameter("whole", (5, 2), "embedding"),
            Parameter("gates", (12, 3), "recurrent", fan_in=3),
            Parameter("deep", (4,), fan_in=5),
            Parameter("parts", (4,), fan_in=5),
            Parameter("given", (4,), fan_in=5),
        ]
    )
    assert [rule.initializer for rule in bound.rules] == [
        layers.fan_in_uniform(36),
        portinit.where(3, portinit.zeros, portinit.normal()),
        portinit.normal(),
        portinit.blocks((portinit.orthogonal(),) * 4),
        portinit.scaled(layers.fan_in_uniform(5), 0.5),
        portinit.blocks((layers.fan_in_uniform(5), layers.fan_in_uniform(9))),
        layers.fan_in_uniform(7),
    ]
    assert [rule.shape for rule in bound.rules][:2] == [(4,), (5, 2)]


@pytest.mark.parametrize(
    ("kind", "shape", "layout"),
    [
        ("embedding", (5, 2), Layout(roles="as is")),
        ("conv_transpose", (2, 3, 4), Layout((-2,), (-1,), flip=True, roles="io")),
        ("conv_transpose", (3,), None),
        ("linear", (2, 3), None),
    ],
)
def test_binding_states_the_layouts_that_a_kind_implies(kind, shape, layout):
    bound = Recipe([("*", ONE)]).bind([Parameter("a", shape, kind)])
    assert bound.rules[0].layout == layout


def test_a_rules_own_layout_goes_first():
    bound = Recipe([("*", ONE, "torch")]).bind([Parameter("a", (5, 2), "embedding")])
    assert bound.rules[0].layout == Layout()


def test_with_layouts_states_layouts_of_names_and_patterns():
    recipe = Recipe([("a.weight", ONE), ("*.kernel", TWO), ("*", ONE, "rows")])
    stated = recipe.with_layouts({"a.weight": "flax", "*.kernel": Layout((2,), (0, 1))})
    layouts = [rule.layout for rule in stated.rules]
    assert layouts == [Layout((-1,), (-2,)), Layout((2,), (0, 1)), Layout(roles="as is")]
    assert [rule.initializer for rule in stated.rules] == [ONE, TWO, ONE]
    assert recipe.rules[0].layout is None


def test_with_layouts_lists_unknown_names():
    with pytest.raises(RecipeError) as raised:
        Recipe([("a", ONE)]).with_layouts({"b": "flax", "a": "flax", "c": "rows"})
    assert "b: no rule" in str(raised.value)
    assert "c: no rule" in str(raised.value)
    assert "a: no rule" not in str(raised.value)


def test_with_layouts_knows_names_with_special_letters():
    bound = Recipe([("*", ONE)]).bind([Parameter("a[0]", (2, 3))])
    assert bound.with_layouts({"a[0]": "flax"}).rules[0].layout == Layout((-1,), (-2,))


# JSON


def full_recipe() -> Recipe:
    return Recipe(
        [
            Rule("a[[]0]", portinit.orthogonal(), Layout((1, 2), (0,)), shape=(6, 2)),
            Rule("scalar", portinit.normal(), shape=()),
            Rule("*.é", portinit.blocks((ONE, portinit.zeros)), "rows", kind="embedding"),
            Rule("*", portinit.trunc_normal(b=float("inf"))),
        ]
    )


def test_a_recipe_comes_back_from_json():
    recipe = full_recipe()
    text = recipe.to_json()
    assert Recipe.from_json(text) == recipe
    assert Recipe.from_json(text).to_json() == text
    assert "NaN" not in text
    assert "Infinity" not in text


def test_an_empty_recipe_comes_back_from_json():
    assert Recipe.from_json(Recipe([]).to_json()) == Recipe([])


def test_the_text_has_a_rule_a_line():
    lines = Recipe([("a", portinit.zeros), ("*", portinit.eye())]).to_json().splitlines()
    assert lines == [
        '{"portinit": 1, "rules": [',
        '  {"name": "a", "initializer": {"init": "zeros"}},',
        '  {"name": "*", "initializer": {"init": "eye"}}',
        "]}",
    ]


def test_recipes_compare_hash_and_pickle():
    recipe = full_recipe()
    assert recipe == full_recipe()
    assert hash(recipe) == hash(full_recipe())
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert recipe != Recipe(recipe.rules[1:])


# Keys


def jax_words(name: str) -> np.ndarray:
    """The words of JAX's own fold_in for the first eight bytes of the name's SHA-256."""
    digest = hashlib.sha256(name.encode()).digest()
    key = jax.random.key(2024)
    for part in (digest[:4], digest[4:8]):
        key = jax.random.fold_in(key, int.from_bytes(part, "big"))
    return np.asarray(jax.random.key_data(key))


@pytest.mark.parametrize("name", ["0.weight", "2.bias"])
def test_a_parameters_key_is_the_keys_child_of_its_name(name):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    portinit_torch.initialize(model, Recipe([("*", portinit.uniform(-1.0, 1.0))]), KEY)
    got = model.get_parameter(name).detach().numpy()
    bits = jax.random.bits(jax.random.wrap_key_data(jax_words(name)), got.shape)
    top = np.asarray(bits).view(np.int32) >> 8  # 24 bits, signed
    np.testing.assert_array_equal(got, (top * 2.0**-23).astype(np.float32))


def filled(*members: tuple[str, nn.Module], recipe: Recipe | None = None) -> dict:
    model = nn.ModuleDict(dict(members))
    recipe = recipe or portinit.recipes.torch_defaults()
    return portinit_torch.initialize(model, recipe, KEY).state_dict()


def test_another_layer_or_order_changes_no_other_parameter():
    a, b = (
        filled(("a", nn.Linear(3, 4)), ("b", nn.Conv1d(2, 4, 3))),
        filled(("b", nn.Conv1d(2, 4, 3)), ("new", nn.LSTM(2, 3)), ("a", nn.Linear(3, 4))),
    )
    for name, tensor in a.items():
        assert torch.equal(tensor, b[name])
    assert len(b) > len(a)


def test_another_name_or_key_changes_the_values():
    values = filled(("a", nn.Linear(3, 4)), ("b", nn.Linear(3, 4)))
    assert not torch.equal(values["a.weight"], values["b.weight"])
    model = portinit_torch.initialize(
        nn.ModuleDict({"a": nn.Linear(3, 4)}), portinit.recipes.torch_defaults(), portinit.key(1)
    )
    assert not torch.equal(values["a.weight"], model["a"].weight)


def test_which_rule_matched_does_not_enter_the_key():
    by_pattern = filled(("a", nn.Linear(3, 4)), recipe=Recipe([("*", portinit.normal())]))
    by_name = filled(
        ("a", nn.Linear(3, 4)),
        recipe=Recipe([("x", ONE), ("a.weight", portinit.normal()), ("a.*", portinit.normal())]),
    )
    assert all(torch.equal(by_pattern[name], by_name[name]) for name in by_pattern)


def varied_model() -> nn.Module:
    return nn.ModuleDict(
        {
            "embed": nn.Embedding(7, 4, padding_idx=2),
            "lstm": nn.LSTM(4, 3, num_layers=2),
            "attn": nn.MultiheadAttention(4, 2),
            "conv": nn.Conv2d(4, 6, 3, groups=2),
            "up": nn.ConvTranspose2d(6, 4, 2),
            "bn": nn.BatchNorm2d(4),
            "bilinear": nn.Bilinear(2, 3, 4),
        }
    )


@pytest.mark.parametrize("name", ["torch_defaults", "flax_defaults"])
def test_a_bound_recipe_read_back_gives_the_same_weights(name):
    recipe = getattr(portinit.recipes, name)()
    expected = portinit_torch.initialize(varied_model(), recipe, KEY).state_dict()
    bound = portinit_torch.bind(varied_model(), recipe)
    again = portinit_torch.initialize(varied_model(), Recipe.from_json(bound.to_json()), KEY)
    assert Recipe.from_json(bound.to_json()) == bound
    for tensor_name, tensor in again.state_dict().items():
        assert torch.equal(tensor, expected[tensor_name]), tensor_name


def counting_matches(monkeypatch):
    calls = [0]
    matches = portinit.Rule.matches

    def counted(rule, parameter):
        calls[0] += 1
        return matches(rule, parameter)

    monkeypatch.setattr(portinit.Rule, "matches", counted)
    return calls


@pytest.mark.parametrize("count", [100, 20_000])
def test_binding_compares_each_parameter_with_its_own_rule_and_the_patterns(monkeypatch, count):
    parameters = [Parameter(f"layers.{i}.weight", (2, 3), "linear") for i in range(count)]
    recipe = Recipe([Rule(p.name, portinit.zeros) for p in parameters])
    with_patterns = Recipe([("*.bias", portinit.ones)]) + recipe + Recipe([("*", portinit.ones)])
    calls = counting_matches(monkeypatch)
    assert recipe.bind(parameters).names == recipe.names
    assert calls[0] == count
    assert with_patterns.bind(parameters).names == recipe.names
    assert calls[0] == 3 * count  # and once with the pattern in front of it


def test_values_are_given_without_comparing_names(monkeypatch):
    names = [f"layers.{i}.weight" for i in range(2_000)]
    recipe = Recipe([(name, portinit.zeros) for name in names])
    calls = counting_matches(monkeypatch)
    scans = []

    class Names(tuple):
        def __contains__(self, name):
            scans.append(name)
            return super().__contains__(name)

    monkeypatch.setattr(Recipe, "names", property(lambda recipe: Names(names)))
    filled = recipe.with_values(dict.fromkeys(names[::2], np.ones(3)))
    assert str(filled.rules[0].initializer) == "assigned(3 float64)"
    assert filled.rules[1].initializer == portinit.zeros
    assert (calls[0], scans) == (0, [])


@pytest.mark.parametrize(
    ("rules", "kind", "expected"),
    [
        ([("w*", "a"), ("w", "b")], None, "a"),
        ([("w", "a"), ("w*", "b")], None, "a"),
        ([("w", "a"), ("w", "b")], None, "a"),
        ([("x*", "a"), ("w", "b"), ("w*", "c")], None, "b"),
        ([("w", "a", "conv"), ("w", "b"), ("*", "c", "linear")], "linear", "b"),
        ([("w", "a", "conv"), ("*", "c", "linear"), ("w", "b")], "linear", "c"),
        ([("w", "a", "conv"), ("x", "c")], "linear", None),
    ],
)
def test_the_first_rule_that_matches_decides_whether_name_or_pattern(rules, kind, expected):
    values = {"a": portinit.constant(1.0), "b": portinit.constant(2.0), "c": portinit.constant(3.0)}
    recipe = Recipe(
        Rule(pattern, values[which], kind=kinds[0] if kinds else None)
        for pattern, which, *kinds in rules
    )
    found = recipe.find(Parameter("w", (3,), kind))
    assert (found and found.initializer) == (expected and values[expected])
