"""Names across frameworks: which Flax path is which PyTorch name, and what is said if none is."""

import pytest

from portinit.recipes.matching.names.by_name import match_names
from portinit.recipes.names import torch_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Dense_0/kernel", "Dense.0.weight"),
        ("layers_0/linear1/kernel", "layers.0.linear1.weight"),
        ("layers/0/linear1/bias", "layers.0.linear1.bias"),
        ("layer_norm_12/scale", "layer_norm.12.weight"),
        ("conv2d/kernel", "conv2d.weight"),
        ("embed/embedding", "embed.weight"),
        ("bn/mean", "bn.running_mean"),
        ("bn/var", "bn.running_var"),
        ("act/negative_slope", "act.weight"),
        ("weight_ih_l0", "weight_ih_l0"),
        ("block_1_2/kernel", "block_1.2.weight"),
        ("kernel", "weight"),
        ("kernel/bias", "kernel.bias"),
        ("scale/kernel", "scale.weight"),
    ],
)
def test_a_path_is_translated(path, name):
    assert torch_name(path.split("/")) == name


def matched(paths, known, table=None):
    found, misfits = match_names([tuple(p.split("/")) for p in paths], known, table or {})
    return {"/".join(path): str(name) for path, name in found.items()}, misfits


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("layers_0/linear1/kernel", "layers.0.linear1.weight"),
        ("layers/0/linear1/kernel", "layers.0.linear1.weight"),
        ("layers_0_linear1/kernel", "layers.0.linear1.weight"),
        ("layers_0/linear1/kernel", "layers_0_linear1.weight"),
        ("attn/in_proj/kernel", "attn.in_proj_weight"),
        ("layer_norm/scale", "layer_norm.weight"),
        ("lstm/weight_ih_l0", "lstm.weight_ih_l0"),
        ("bn/var", "bn.running_var"),
        ("kernel", "weight"),
    ],
)
def test_a_path_finds_the_name_of_the_same_words(path, name):
    known = ["other.bias", name, "layers.10.linear1.weight"]
    assert matched([path], known) == ({path: name}, [])


@pytest.mark.parametrize("name", ["block.scale", "pos.embedding"])
def test_a_path_finds_the_very_name_it_spells(name):
    path = name.replace(".", "/")
    assert matched([path], [name, "other.bias"]) == ({path: name}, [])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("layers_1/kernel", "layers.10.weight"),
        ("layers_1/kernel", "layers.1.bias"),
        ("layers1/kernel", "layers.1.weight"),
        ("Head/kernel", "head.weight"),
        ("bn/mean", "bn.mean_"),
        ("a/b/kernel", "b.a.weight"),
    ],
)
def test_a_path_does_not_find_a_name_of_other_words(path, name):
    found, misfits = matched([path], [name])
    assert found == {}
    assert misfits == [f"{path}: the recipe has no such name"]


def test_without_known_names_a_path_is_its_translation():
    assert matched(["a_0/kernel"], []) == ({"a_0/kernel": "a.0.weight"}, [])


def test_a_name_of_two_readings_is_ambiguous():
    found, misfits = matched(["a/b/kernel"], ["a.b.weight", "a_b.weight"])
    assert found == {}
    assert misfits == ["a/b/kernel: could be any of a.b.weight, a_b.weight"]


def test_the_table_decides_an_ambiguity():
    table = {"a/b/kernel": "a_b.weight", "a_b/kernel": "a.b.weight"}
    assert matched(list(table), ["a.b.weight", "a_b.weight"], table) == (table, [])


def test_the_table_goes_before_the_words():
    table = {"a/kernel": "b.weight", "b/kernel": "a.weight"}
    assert matched(["a/kernel", "b/kernel"], ["a.weight", "b.weight"], table) == (table, [])


def test_the_table_translates_for_patterns_too():
    assert matched(["a/kernel"], [], {"a/kernel": "x.y"}) == ({"a/kernel": "x.y"}, [])


def test_two_paths_for_one_name_are_listed():
    found, misfits = matched(["a_b/kernel", "a/b/kernel"], ["a.b.weight"])
    assert len(found) == 2
    assert misfits == ["a.b.weight: claimed by a_b/kernel and a/b/kernel"]


def test_two_paths_of_one_translation_are_listed():
    _, misfits = matched(["a_0/kernel", "a/0/kernel"], [])
    assert misfits == ["a.0.weight: claimed by a_0/kernel and a/0/kernel"]


def test_every_misfit_is_listed():
    paths = ["a/b/kernel", "c/kernel", "d/kernel", "e/kernel"]
    table = {"d/kernel": "f", "e/kernel": "f", "gone/kernel": "g", "away": "h"}
    _, misfits = matched(paths, ["a.b.weight", "a_b.weight"], table)
    assert misfits == [
        "away: in the table of names, but not in the tree",
        "gone/kernel: in the table of names, but not in the tree",
        "a/b/kernel: could be any of a.b.weight, a_b.weight",
        "c/kernel: the recipe has no such name",
        "d/kernel: the recipe has no f",
        "e/kernel: the recipe has no f",
        "f: claimed by d/kernel and e/kernel",
    ]
