"""A scheme whose rules miss a model's names says so; one that fits says nothing."""

import warnings
from collections.abc import Callable
from typing import Any

import equinox
import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from torch import nn

import portinit
import portinit_equinox
import portinit_flax
import portinit_torch
from portinit import Parameter, Recipe, Rule, recipes

KEY = portinit.key(0)

# Each scheme, and names of its authors' code that it is about, with the kinds of their layers.
FITTING: dict[str, tuple[Callable[[], Recipe], list[tuple[str, str | None]]]] = {
    "deepnorm": (lambda: recipes.deepnorm(6), [("layers.0.fc1.weight", "linear")]),
    "t_fixup": (lambda: recipes.t_fixup(8, 6), [("encoder.0.v_proj.weight", "linear")]),
    "fixup": (
        lambda: recipes.fixup(4),
        [("layer1.0.conv1.weight", "conv"), ("layer1.0.conv2.weight", "conv")],
    ),
    "rezero": (recipes.rezero, [("layers.0.resweight", None)]),
    "layer_scale": (recipes.layer_scale, [("blocks.0.ls1.gamma", None)]),
    "adaln_zero": (recipes.adaln_zero, [("blocks.0.adaLN_modulation.1.weight", "linear")]),
    "dit": (recipes.dit, [("final_layer.linear.weight", "linear")]),
    "dit of diffusers": (recipes.dit, [("transformer_blocks.0.norm1.linear.weight", "linear")]),
    "diffusion_unet": (
        recipes.diffusion_unet,
        [("input_blocks.1.0.out_layers.3.weight", "conv"), ("out.2.weight", "conv")],
    ),
    "diffusion_unet of diffusers": (
        recipes.diffusion_unet,
        [("mid_block.resnets.0.conv2.weight", "conv"), ("conv_out.weight", "conv")],
    ),
    "gpt_neox": (lambda: recipes.gpt_neox(2, 8), [("layers.0.attention.dense.weight", "linear")]),
    "gpt2": (lambda: recipes.gpt2(2), [("h.0.attn.c_proj.weight", None)]),
    "t5": (lambda: recipes.t5(8, 4), [("block.0.layer.0.SelfAttention.q.weight", "linear")]),
    "clip": (lambda: recipes.clip(8, 2, 8, 2), [("vision_model.class_embedding", None)]),
    "mamba": (recipes.mamba, [("layers.0.mixer.dt_proj.bias", "linear")]),
    "whisper": (recipes.whisper, [("model.encoder.embed_positions.weight", "embedding")]),
    "resnet": (lambda: recipes.resnet(True), [("layer1.0.bn2.weight", "norm")]),
    "lora": (recipes.lora, [("q.lora_A.weight", "linear"), ("q.lora_B.weight", "linear")]),
    "switch_router": (recipes.switch_router, [("mlp.router.classifier.weight", "linear")]),
    "packed_experts": (recipes.packed_experts, [("mlp.experts.up", None)]),
    "lstm": (recipes.lstm, [("lstm.weight_ih_l0", "recurrent")]),
    "chrono_lstm": (lambda: recipes.chrono_lstm(9), [("lstm.weight_hh_l0", "recurrent")]),
    "gru of Flax": (recipes.gru, [("cell.hr.weight", "recurrent")]),
    "rnn": (recipes.rnn, [("rnn.weight_ih_l0", "recurrent")]),
    "irnn": (recipes.irnn, [("rnn.weight_ih_l0", "recurrent")]),
}
ELSEWHERE = [("trunk.0.w_1.weight", "linear"), ("trunk.0.w_1.bias", "linear")]
REST = Recipe([("*", portinit.zeros)])


def bound(recipe: Recipe, names: list[tuple[str, str | None]]) -> list[str]:
    """The warnings of a recipe and a zero for the rest that are bound to parameters."""
    weights = [Rule(pattern, portinit.zeros) for pattern, _ in names]  # takes what could not fit
    parameters = [Parameter(name, (8, 8), kind) for name, kind in names]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (Recipe(weights) + recipe + REST).bind(parameters)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("name", FITTING)
def test_a_scheme_that_fits_is_silent_though_rules_in_front_take_its_parameters(name) -> None:
    make, names = FITTING[name]
    assert bound(make(), names + ELSEWHERE) == []


@pytest.mark.parametrize("name", FITTING)
def test_a_scheme_that_misses_is_named_with_what_it_looks_for_and_what_is_there(name) -> None:
    make, names = FITTING[name]
    recipe = make()
    messages = bound(recipe, ELSEWHERE)
    assert [text.partition(" matches no parameter")[0] for text in messages] == [*recipe.schemes]
    for text, rules in zip(messages, recipe.schemes.values(), strict=True):
        assert text.startswith(name.partition(" ")[0])
        assert f"it looks for {rules[0].pattern}" in text
        assert "the model has trunk.*.w_1." in text
        assert "give the model's own names" in text
    halves = [bound(recipe, [pair, *ELSEWHERE]) for pair in names]
    assert all(len(half) == len(messages) - 1 for half in halves)


@pytest.mark.parametrize("name", FITTING)
def test_a_recipe_that_is_written_and_read_warns_as_well(name) -> None:
    recipe = FITTING[name][0]()
    read = Recipe.from_json(recipe.to_json())
    assert bound(read, ELSEWHERE) == bound(recipe, ELSEWHERE) != []


@pytest.mark.parametrize(
    "recipe",
    [
        recipes.torch_defaults(),
        recipes.flax_defaults(),
        recipes.vit(),
        recipes.llama(),
        recipes.resnet(),
        recipes.diffusion_unet(zero_init=False),
        recipes.efficientnet(),
        Recipe([("*.bias", portinit.zeros), ("*.wieght", portinit.ones)]),
    ],
)
def test_rules_for_layers_that_a_model_lacks_are_ordinary(recipe) -> None:
    assert bound(recipe, ELSEWHERE) == []


def test_each_side_of_a_transformer_is_looked_for() -> None:
    names: list[tuple[str, str | None]] = [("encoder.0.fc1.weight", "linear")]
    for recipe in (recipes.deepnorm(6, 6), recipes.t_fixup(8, 6, 6)):
        (text,) = bound(recipe, names)
        assert "in the decoder matches no parameter" in text
        assert "*decoder" in text


def test_branches_of_more_layers_than_the_model_has_are_said() -> None:
    names: list[tuple[str, str | None]] = [
        (f"layer1.0.conv{number}.weight", "conv") for number in (1, 2)
    ]
    (text,) = bound(recipes.fixup(8, depth=3), names)
    assert text.startswith("fixup(last=...)")
    assert "*layer*.conv3.weight" in text


def test_patterns_of_the_user_are_looked_for() -> None:
    (text,) = bound(recipes.deepnorm(6, branches="*.w_2.weight"), ELSEWHERE)
    assert "it looks for *.w_2.weight\n" in text
    assert "in branches=, or in a rule of xavier_normal(gain=" in text
    assert bound(recipes.deepnorm(6, branches="*.w_?.weight"), ELSEWHERE) == []
    assert bound(recipes.fixup(4, inside=(), last="*.w_1.weight"), ELSEWHERE) == []


def test_a_rule_of_the_users_own_may_be_one_that_must_match() -> None:
    rule = Rule("*.wieght", portinit.zeros, scheme="my zeros")
    (text,) = bound(Recipe([rule]), ELSEWHERE)
    assert text.startswith("my zeros matches no parameter of this model")
    with pytest.raises(TypeError, match=r"^scheme must be text, got 3$"):
        Rule("*", portinit.zeros, scheme=3)  # type: ignore[arg-type]


def test_a_bound_recipe_fits_a_part_of_its_model_in_silence() -> None:
    recipe = recipes.rezero() + REST
    whole = recipe.bind([Parameter("0.resweight", (1,)), Parameter("1.weight", (2, 2))])
    assert not whole.schemes
    whole.bind([Parameter("1.weight", (2, 2))])


def test_a_model_without_parameters_has_nothing_to_miss() -> None:
    assert len(recipes.rezero().bind([]).rules) == 0


def test_long_lists_are_cut() -> None:
    names: list[tuple[str, str | None]] = [(f"layer{n}.weight", "linear") for n in range(30)]
    (text,) = bound(recipes.deepnorm(6), names)
    assert "layer7.weight and 22 more\n" in text


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(4, 4)


class FlaxBlock(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.mlp = nnx.Linear(4, 4, rngs=rngs)


class EquinoxBlock(equinox.Module):
    mlp: equinox.nn.Linear

    def __init__(self) -> None:
        self.mlp = equinox.nn.Linear(4, 4, key=jax.random.key(0))


TREE = {"mlp": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}
FILLS: dict[str, Callable[[Recipe], Any]] = {
    "torch": lambda recipe: portinit_torch.initialize(Block(), recipe, KEY),
    "torch bind": lambda recipe: portinit_torch.bind(Block(), recipe),
    "torch checkpoint": lambda recipe: portinit_torch.checkpoint_tensors(Block(), recipe),
    "Flax dict": lambda recipe: portinit_flax.initialize(TREE, recipe, KEY),
    "nnx": lambda recipe: portinit_flax.initialize(FlaxBlock(nnx.Rngs(0)), recipe, KEY),
    "Equinox": lambda recipe: portinit_equinox.initialize(EquinoxBlock(), recipe, KEY),
}


@pytest.mark.parametrize("fill", FILLS.values(), ids=FILLS)
def test_every_framework_says_it(fill) -> None:
    for silent in (recipes.torch_defaults(), recipes.deepnorm(6, branches="mlp.weight")):
        fill(silent)
    with pytest.warns(UserWarning, match=r"^deepnorm\(branches=\.\.\.\) matches no parameter") as w:
        fill(recipes.deepnorm(6))
    assert len(w) == 1
    assert "the model has mlp.weight\n" in str(w[0].message)
    assert w[0].filename == __file__ or fill is FILLS["torch checkpoint"]


def test_a_traced_recipe_behind_a_scheme_is_looked_at_by_its_names() -> None:
    traced = portinit_torch.trace(Block)
    portinit_flax.initialize(TREE, recipes.lora("mlp.weight", "mlp.*") + traced, KEY)
    with pytest.warns(UserWarning, match=r"^rezero\(patterns=\.\.\.\) matches no parameter"):
        portinit_flax.initialize(TREE, recipes.rezero() + traced, KEY)


def test_unmatched_rules_are_told_when_asked() -> None:
    recipe = Recipe([("*.wieght", portinit.zeros), ("1.bias", portinit.ones), ("*", portinit.ones)])
    parameters = [Parameter("0.weight", (2, 2), other_names=("1.bias",))]
    assert [rule.pattern for rule in recipe.unmatched_rules(parameters)] == ["*.wieght"]
    assert len(recipe.unmatched_rules([])) == 3
