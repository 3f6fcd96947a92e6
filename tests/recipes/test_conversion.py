"""Conversions read off tagged tensors: against NumPy's own indexing, and what must be refused."""

import json
import math

import ml_dtypes
import numpy as np
import pytest

import portinit
from portinit.recipes.elements import Elements, mixed_radix
from portinit.recipes.matching.conversions.conversion import read_conversion
from portinit.recipes.matching.conversions.recognition import recognise
from portinit.recipes.matching.tables.compact import compact
from portinit.recipes.matching.tables.files import Names
from portinit.recipes.matching.tables.table import Table
from portinit.recipes.matching.tables.targets import Target
from portinit.recipes.names import ParameterSlice
from portinit.recipes.rule import RecipeError


def numbered(*shape):
    return np.arange(math.prod(shape)).reshape(shape)


CONV = numbered(8, 3, 5, 7)
HEADS = numbered(64, 16)  # 4 heads of 16 rows
ROTARY = HEADS.reshape(4, 8, 2, 16).transpose(0, 2, 1, 3).reshape(64, 16)
ARRAYS = {
    "as it stands": (numbered(6, 4), (6, 4)),
    "transposed": (numbered(6, 4).T, (6, 4)),
    "square": (numbered(6, 6).T, (6, 6)),
    "columns": (numbered(6, 4)[:, 1:3].T, (6, 4)),
    "every other row": (numbered(6, 4)[::2].T, (6, 4)),
    "one row": (numbered(6, 4)[3], (6, 4)),
    "one column": (numbered(6, 4)[:, 2], (6, 4)),
    "a box": (numbered(6, 4, 5)[1:3, :2, 2:].transpose(1, 2, 0), (6, 4, 5)),
    "convolution": (CONV.transpose(2, 3, 1, 0), CONV.shape),
    "patches": (CONV.transpose(2, 3, 1, 0).reshape(-1, 8), CONV.shape),
    "patches of channels first": (CONV.reshape(8, -1).T, CONV.shape),
    "depthwise": (numbered(8, 1, 3, 3).transpose(2, 3, 1, 0), (8, 1, 3, 3)),
    "depthwise without the 1": (numbered(8, 3, 3).transpose(1, 2, 0), (8, 1, 3, 3)),
    "transposed convolution": (
        numbered(4, 8, 3, 3).transpose(2, 3, 0, 1)[::-1, ::-1],
        (4, 8, 3, 3),
    ),
    "heads": (HEADS.reshape(4, 16, 16).transpose(2, 0, 1), (64, 16)),
    "rotary": (ROTARY.T, (64, 16)),
    "rotary in heads": (ROTARY.reshape(4, 16, 16).transpose(2, 0, 1), (64, 16)),
    "a vector in heads": (numbered(8).reshape(2, 4), (8,)),
    "a vector of more axes": (numbered(8).reshape(1, 1, 8), (8,)),
    "magnitudes": (numbered(8), (8, 1, 1)),
    "a scalar": (np.array(0), (1,)),
    "an array of a scalar": (np.array([0]), ()),
    "one of several": (numbered(3, 6, 4)[1].T, (3, 6, 4)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_a_box_and_its_layout_give_the_array_again(name):
    array, whole = ARRAYS[name]
    found = recognise(array, whole)
    assert found is not None
    box, layout = found
    source = ParameterSlice.box("w", box, whole)
    assert ParameterSlice.parse(str(source)) == source
    values = np.random.default_rng(0).standard_normal(whole)
    again = layout.from_torch(source.of(values), array.shape)
    assert np.array_equal(again, values.reshape(-1)[array])
    assert np.array_equal(layout.to_torch(values.reshape(-1)[array]), source.of(values))


@pytest.mark.parametrize(
    "array",
    [
        numbered(6, 4).repeat(2, 0),
        numbered(6, 4)[[0, 2, 3, 1, 5, 4]],
        CONV.transpose(3, 2, 1, 0),
        numbered(6, 4)[:, ::-1],
        np.concatenate([numbered(6, 4)[4:], numbered(6, 4)[:4]]),
    ],
)
def test_what_no_layout_has_is_refused_and_described_by_numbers(array):
    whole = CONV.shape if array.size == CONV.size else (6, 4)
    assert recognise(array, whole) is None
    elements = Elements.of(array)
    assert np.array_equal(elements.numbers, array.reshape(-1))
    assert Elements.from_data(json.loads(json.dumps(elements.to_data()))) == elements


def test_rows_that_are_permuted_at_random_take_a_list_of_rows():
    rows = np.random.default_rng(0).permutation(64)
    elements = Elements.of(numbered(64, 1000)[rows].T)
    assert sum(len(s) if isinstance(s, tuple) else 1 for s in elements.strides) == 65


@pytest.mark.parametrize(
    ("line", "radix"),
    [
        ([0], []),
        ([0, 3, 6], [(3, 3)]),
        ([0, 1, 4, 5], [(2, 4), (2, 1)]),
        ([0, -1, -2], [(3, -1)]),
        ([0, 0, 1, 1], [(2, 1), (2, 0)]),
        ([0, 2, 1], None),
        ([0, 1, 2, 4], None),
    ],
)
def test_mixed_radix(line, radix):
    assert mixed_radix(np.array(line)) == radix


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"start": 0.5},
        {"sizes": [2]},
        {"sizes": [2], "strides": [[1]]},
        {"sizes": [True], "strides": [1]},
        {"sizes": 3, "strides": 1},
        {"of": "w"},
        {"sizes": [-1], "strides": [1]},
    ],
)
def test_elements_that_are_none_are_refused(data):
    with pytest.raises(ValueError, match=r"elements|axis"):
        Elements.from_data(data)


def read(convert, shapes, dtypes=None):
    dtypes = dtypes or dict.fromkeys(shapes, "float32")

    def push(tensors):
        return convert({k: v.astype(np.dtype(dtypes[k])) for k, v in tensors.items()})

    return read_conversion(push, shapes, dtypes)


def test_what_is_computed_or_constant_is_told_from_what_is_moved():
    def convert(state):
        a, b = state["a"], state["b"]
        half = np.concatenate([a[:2] * 2, a[2:]])
        return {
            "moved": a.T,
            "double": a * 2,
            "plus_one": 1 + b,
            "sum": a + a[::-1],
            "absolute": np.abs(a),
            "clipped": np.maximum(b, 1e-5),
            "zeros": np.zeros(3, np.float32),
            "eps": np.full((2, 2), 1e-5, np.float32),
            "table": np.arange(6, dtype=np.float32),
            "half": half,
            "padded": np.concatenate([b, np.zeros(3, np.float32)]),
            "squared": b * b,
        }

    found = read(convert, {"a": (4, 6), "b": (5,), "c": (2,)})
    computed = {one.path for one in found.unexplained}
    assert computed == {"double", "plus_one", "sum", "absolute", "clipped", "half", "squared"}
    assert found["zeros"].initializer == portinit.zeros
    assert found["eps"].initializer == portinit.constant(np.float32(1e-5))
    assert set(found.constants) == {"zeros", "eps", "table", "padded"}
    assert str(found["moved"].parameter) == "a"
    assert found.unused == ("c",)
    assert found.ignore == ("c",)
    half = next(one for one in found.unexplained if one.path == "half")
    assert str(half) == "half (4, 6): 12 of 24 elements computed"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_dtypes_carry_the_tags(dtype):
    narrow = np.dtype(getattr(ml_dtypes, dtype, dtype))
    found = read(
        lambda state: {"w": state["w"].T.astype(narrow), "b": state["b"]},
        {"w": (40, 30), "b": (70,)},
    )
    assert found.unexplained == ()
    assert found["w"].to_data() == ["w", "flax"]
    assert found.rounded == ()


def test_a_detour_through_a_narrow_dtype_is_told():
    def convert(state):
        return {"w": state["w"].astype(ml_dtypes.bfloat16).astype(np.float32), "b": state["b"]}

    found = read(convert, {"w": (40, 30), "b": (7,)})
    assert found.rounded == ("w",)
    assert found["w"].to_data() == ["w", "torch"]


def test_a_narrow_parameter_is_not_called_rounded():
    found = read(
        lambda state: {"w": state["w"].astype(np.float32)}, {"w": (9, 3)}, {"w": "bfloat16"}
    )
    assert found.rounded == ()
    assert found["w"].to_data() == ["w", "torch"]


def test_stacks_of_joined_parameters_and_interleaved_ones():
    shapes = {f"layers.{i}.{n}": (4, 6) for i in range(3) for n in ("q", "k", "v")}

    def convert(state):
        layers = [[state[f"layers.{i}.{n}"].T for n in ("q", "k", "v")] for i in range(3)]
        gate, up = state["layers.0.q"], state["layers.1.q"]
        return {
            "qkv": np.stack([np.concatenate(layer, -1) for layer in layers]),
            "q": np.stack([layer[0] for layer in layers], 1),
            "interleaved": np.stack([gate, up], 1).reshape(8, 6),
            "padded": np.concatenate([layers[0][0], np.zeros((2, 4), np.float32)]),
        }

    found = read(convert, shapes)
    assert found.unexplained == ()
    assert found["q"].to_data() == {"stack": "layers.*.q", "axis": 1, "layout": "flax"}
    first = found["qkv"].to_data()["stack"][0]
    assert first == {"concat": [[f"layers.0.{n}", "flax"] for n in ("q", "k", "v")], "axis": 1}
    pieces = found["interleaved"].to_data()["pieces"]
    assert [piece["to"]["start"] for piece in pieces] == [0, 6]
    assert found["padded"].to_data()["concat"] == [["layers.0.q", "flax"], {"init": "zeros"}]
    again = Names.from_json(found.to_json())
    assert {path: Target.read(value) for path, value in again.items()} == dict(found)


def test_a_conversion_that_gives_other_arrays_each_time_is_refused():
    calls = iter(range(9))
    with pytest.raises(RecipeError, match=r"the same arrays.*\n  x0\n  x1"):
        read(lambda state: {"w": state["w"], f"x{min(next(calls), 1)}": state["w"]}, {"w": (3,)})


def lines(count, path, name):
    return {path.format(i): Target.read(name.format(i)) for i in range(count)}


def test_lines_that_differ_in_numbers_become_one():
    table = lines(12, "layers_{}/attn/q/kernel", "model.layers.{}.self_attn.q_proj.weight")
    table |= lines(12, "layers_{}/norm/scale", "model.layers.{}.norm.weight")
    short = compact(table)
    assert set(short) == {"layers_*/attn/q/kernel", "layers_*/norm/scale"}
    asked = Table(short)
    for path, target in table.items():
        assert asked.target(path) == (target, ())


def test_lines_are_kept_where_a_pattern_would_say_something_else():
    table = lines(3, "layers_{}/kernel", "layers.{}.weight")
    assert list(compact(table, ["layers_3/kernel"])) == list(table)
    shifted = {f"layers_{i}/kernel": Target.read(f"layers.{i + 1}.weight") for i in range(3)}
    assert compact(shifted) == shifted
    odd = {**table, "layers_9/kernel": Target.read(("layers.9.weight", "flax"))}
    asked = Table(compact(odd))
    assert all(asked.target(path) == (target, ()) for path, target in odd.items())


def test_a_table_with_what_goes_with_it_is_read_again():
    names = Names({"a/b": "c.weight"}, ("pooler.*",), {"layers": 1})
    again = Names.from_json(names.to_json())
    assert (dict(again), again.ignore, again.stacked) == (
        {"a/b": "c.weight"},
        ("pooler.*",),
        {"layers": 1},
    )
    plain = Names.from_json('{"names/stack": "x", "names": ["y", "flax"]}')
    assert dict(plain) == {"names/stack": "x", "names": ["y", "flax"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", "got a list"),
        ("{", "no JSON"),
        ('{"a": 3}', "a: a name, a pair"),
        ('{"a": {"stack": "x"}}', "needs a \\*"),
        ('{"a": {"stack": []}}', "must join"),
        ('{"a": {"pieces": [{"of": "x", "elements": {}}]}}', "where it goes"),
        ('{"names": {}, "ignore": "x"}', "list of patterns"),
        ('{"names": {}, "stacked": {"a": "b"}}', "paths to axes"),
    ],
)
def test_tables_that_cannot_be_read_say_so(text, words):
    with pytest.raises(RecipeError, match=words):
        Names.from_json(text)
