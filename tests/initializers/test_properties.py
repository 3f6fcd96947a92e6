"""Properties that hold for any array, layout, part, initializer and recipe text.

Every run draws the same examples. ``python -m pytest -m slow`` fuzzes the reader for longer.
"""

import contextlib
import itertools
import json
import math
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import portinit as pi
from portinit import Initializer, Layout, Parameter, Recipe, RecipeError, layers
from portinit.arrays.grids import Grid
from portinit.recipes.serialization import initializer_from_data, initializer_to_data

KEY = pi.key(77)
Shape = tuple[int, ...]
Cut = tuple[slice, ...]
PROFILE = settings(deadline=None, derandomize=True, database=None)


def values(initializer: Initializer, grid: Grid, dtype: str = "float32", xp: Any = np) -> Any:
    return initializer.evaluate(KEY, grid, dtype, xp=xp)


def cut(grid: Grid, positions: Cut) -> Grid:
    for axis, chosen in enumerate(positions):
        grid = grid.part(axis, chosen)
    return grid


# Arrays and their parts


@st.composite
def layouts(draw: st.DrawFn, ndim: int, space: int | None = None) -> Layout:
    """Any layout of an array: axes in any order, several to one of PyTorch's, space flipped."""
    if ndim < 2:
        return Layout(flip=draw(st.booleans()))
    order = [axis - ndim * draw(st.booleans()) for axis in draw(st.permutations(range(ndim)))]
    if space is None:
        named = draw(st.integers(1, ndim))
        first = draw(st.integers(1, named))
    else:
        named = ndim - space
        first = draw(st.integers(1, named - 1))
    axes = tuple(order[:first]), tuple(order[first:named])
    return Layout(*axes, draw(st.booleans()), draw(st.sampled_from(["oi", "io", "as is"])))


@st.composite
def arrays(draw: st.DrawFn, least: int = 0, most: int = 6) -> Grid:
    """Any array of 0 to 4 axes, in any layout."""
    shape = tuple(draw(st.lists(st.integers(least, most), max_size=4)))
    return Grid.whole(shape, draw(layouts(len(shape))))


@st.composite
def slices(draw: st.DrawFn, length: int) -> slice:
    start = draw(st.integers(0, length))
    return slice(start, draw(st.integers(start, length)))


@st.composite
def cuts(draw: st.DrawFn, grid: Grid) -> Cut:
    return tuple(draw(slices(length)) for length in grid.array_shape)


PLACED: dict[str, Initializer] = {
    "uniform": pi.uniform(-0.5, 1.5),
    "normal": pi.normal(0.1, 2.0),
    "trunc_normal": pi.trunc_normal(0.5, a=-1.0),
    "xavier_normal": pi.xavier_normal(),
    "kaiming_uniform": pi.kaiming_uniform(mode="fan_out"),
    "lecun_normal": pi.lecun_normal(),
    "glorot_uniform": pi.variance_scaling(1.0, "fan_geo_avg", "uniform"),
    "constant": pi.constant(0.3),
    "fan_in_uniform": layers.fan_in_uniform(7),
    "scaled": pi.scaled(pi.he_normal(), -0.3),
    "where": pi.where((slice(1, -1), slice(2)), pi.ones, pi.normal()),
    "padded": layers.embedding(0),
    "eye": pi.eye(),
    "dirac": pi.dirac(),
    "sparse": pi.sparse(0.4),
    "scaled sparse": pi.scaled(pi.sparse(0.6, 2.0), 3.0),
}
EACH = pytest.mark.parametrize("initializer", PLACED.values(), ids=PLACED)


def suits(initializer: Initializer, grid: Grid, dtype: str = "float32") -> bool:
    try:
        initializer.plan(grid, dtype)
    except (ValueError, TypeError):
        return False
    return True


SPACE = {"eye": 0, "sparse": 0, "scaled sparse": 0, "dirac": 1}


@st.composite
def suited(draw: st.DrawFn, initializer: Initializer) -> Grid:
    """An array that the initializer is defined for, most often."""
    name = next(name for name, placed in PLACED.items() if placed is initializer)
    if name not in SPACE:
        grid = draw(arrays(least=draw(st.integers(0, 1))))
    else:
        ndim = draw(st.integers(2 + SPACE[name], 4))
        shape = tuple(draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)))
        grid = Grid.whole(shape, draw(layouts(ndim, SPACE[name])))
    assume(suits(initializer, grid))
    return grid


@EACH
@settings(PROFILE, max_examples=30)
@given(data=st.data())
def test_any_part_has_the_values_of_the_whole(initializer: Initializer, data: st.DataObject):
    grid = data.draw(suited(initializer))
    whole = values(initializer, grid)
    assert whole.shape == grid.array_shape
    positions = data.draw(cuts(grid))
    part = values(initializer, cut(grid, positions))
    assert part.tobytes() == np.ascontiguousarray(whole[positions]).tobytes()


@EACH
@settings(PROFILE, max_examples=15)
@given(data=st.data())
def test_uneven_shards_join_to_the_whole(initializer: Initializer, data: st.DataObject):
    grid = data.draw(suited(initializer))

    def joined(part: Grid, axis: int) -> Any:
        if axis == len(part.axes):
            return values(initializer, part)
        length = len(part.axes[axis].indices)
        ends = [0, *sorted(data.draw(st.lists(st.integers(0, length), max_size=2))), length]
        pieces = [slice(a, b) for a, b in itertools.pairwise(ends)]
        return np.concatenate([joined(part.part(axis, p), axis + 1) for p in pieces], axis=axis)

    assert joined(grid, 0).tobytes() == values(initializer, grid).tobytes()


@EACH
@settings(PROFILE, max_examples=15)
@given(data=st.data())
def test_any_layout_holds_pytorchs_elements(initializer: Initializer, data: st.DataObject):
    grid = data.draw(suited(initializer))
    in_torch = Grid.whole(grid.shape, Layout(roles=grid.layout.roles))
    weight = values(initializer, in_torch)
    array = values(initializer, grid)
    assert np.array_equal(grid.layout.to_torch(array), weight)
    assert np.array_equal(grid.layout.from_torch(weight, array.shape), array)


@settings(PROFILE, max_examples=60)
@given(st.data())
def test_rows_of_a_packed_parameter_are_rows_of_the_whole(data: st.DataObject):
    part = data.draw(arrays(least=1, most=4).filter(lambda grid: len(grid.axes) > 0))
    step = part.axes[part.members(0)[0]].weight
    before, after = (step * data.draw(st.integers(0, 3)) for _ in range(2))
    rows = before + part.shape[0] + after
    whole = Grid.whole((rows, *part.shape[1:]), Layout(roles=part.layout.roles))
    for initializer in (pi.uniform(), layers.embedding(2)):
        if suits(initializer, whole):
            mine = values(initializer, part.within(rows, before))
            theirs = values(initializer, whole)[before : before + part.shape[0]]
            assert np.array_equal(part.layout.to_torch(mine), theirs)


# Parameters of up to 2**62 elements, of which a few are at hand

HUGE_LAWS: dict[str, tuple[Initializer, Callable[[ModuleType, int], Any]]] = {
    "uniform": (pi.uniform(-2.0, 2.0), lambda r, w: r.uniform(w, "float32", -2.0, 2.0)),
    "offset": (pi.uniform(0.5, 2.0), lambda r, w: r.uniform(w, "float32", 0.5, 2.0)),
    "normal": (pi.normal(std=0.02), lambda r, w: r.normal(w, "float32", 0.0, 0.02)),
}


@st.composite
def huge(draw: st.DrawFn) -> tuple[Grid, Cut]:
    sizes: list[int] = []
    for _ in range(draw(st.integers(2, 4))):
        room = min(2**31 - 1, 2**62 // math.prod(sizes))
        sizes.append(draw(st.integers(max(1, room // 2**16), room)))
    grid = Grid.whole(tuple(sizes), draw(layouts(len(sizes))))
    starts = [draw(st.integers(max(0, n // 2 - 1), max(0, n - 2))) for n in sizes]
    return grid, tuple(slice(start, start + 2) for start in starts)


def index_in_torch(grid: Grid, place: tuple[int, ...]) -> int:
    """The row-major index in PyTorch of an array's element: a layout's definition, in integers."""
    sizes, ndim = grid.array_shape, len(grid.axes)
    named = [axis % ndim for axis in (*grid.layout.axis0, *grid.layout.axis1)]
    rest = [axis for axis in range(ndim) if axis not in named]
    index = 0
    for axis in named + rest:
        backwards = grid.layout.flip and axis in rest[len(rest) - max(0, len(grid.shape) - 2) :]
        step = sizes[axis] - 1 - place[axis] if backwards else place[axis]
        index = index * sizes[axis] + step
    return index


@pytest.mark.parametrize("law", HUGE_LAWS)
@settings(PROFILE, max_examples=20)
@given(case=huge())
def test_counters_beyond_32_bits_give_their_own_words(
    law: str, case: tuple[Grid, Cut], reference: ModuleType
):
    initializer, expected = HUGE_LAWS[law]
    grid, positions = case
    found = values(initializer, cut(grid, positions))
    for offset in np.ndindex(found.shape):
        place = tuple(p.start + o for p, o in zip(positions, offset, strict=True))
        word = reference.word(77, index_in_torch(grid, place))
        assert found[offset] == float(expected(reference, word))


# Keys


@settings(PROFILE, max_examples=50)
@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3))
def test_folds_of_any_key_are_jaxs(seed: int, numbers: list[int]):
    ours = pi.key(seed)
    theirs = jax.random.wrap_key_data(np.array(ours.words, np.uint32))
    for number in numbers:
        ours, theirs = ours.fold_in(number), jax.random.fold_in(theirs, np.uint32(number))
    assert ours.words == tuple(jax.random.key_data(theirs).tolist())


@settings(PROFILE, max_examples=20)
@given(st.integers(0, 2**64 - 1), st.sampled_from([1, 2, 3, 7]))
def test_splits_of_any_key_are_jaxs(seed: int, number: int):
    ours = pi.key(seed)
    theirs = jax.random.split(jax.random.wrap_key_data(np.array(ours.words, np.uint32)), number)
    expected = [tuple(words) for words in jax.random.key_data(theirs).tolist()]
    assert [key.words for key in ours.split(number)] == expected


# Any initializer

numbers = st.floats(-1e3, 1e3, width=32) | st.integers(-3, 3)
positive = st.floats(1e-6, 1e3) | st.integers(1, 5)
axes = st.integers(-2, 1) | st.lists(st.integers(-2, 1), max_size=2).map(tuple)
ends = st.none() | st.integers(-3, 3)
bounds = st.integers(-2, 1) | st.builds(slice, ends, ends)
modes = st.sampled_from(["fan_in", "fan_out"])
functions = st.sampled_from(["relu", "tanh", "leaky_relu", "linear", "selu"])
PLAIN = st.one_of(
    st.builds(lambda a, size: pi.uniform(a, a + size), numbers, positive),
    st.builds(pi.normal, numbers, positive),
    st.builds(lambda m, s: pi.trunc_normal(m, s, m - s, math.inf), numbers, positive),
    st.builds(pi.truncated_normal, positive),
    st.builds(pi.xavier_uniform, positive),
    st.builds(pi.xavier_normal, positive),
    st.builds(pi.kaiming_uniform, numbers, modes, functions | positive),
    st.builds(pi.kaiming_normal, numbers, modes, functions),
    st.builds(pi.he_normal, axes, axes, axes),
    st.builds(pi.variance_scaling, positive, modes, st.sampled_from(["uniform", "normal"])),
    st.builds(pi.constant, numbers),
    st.sampled_from([pi.zeros, pi.ones, pi.eye(), layers.linear_bias()]),
    st.builds(pi.dirac, st.integers(1, 3)),
    st.builds(pi.orthogonal, numbers),
    st.builds(pi.delta_orthogonal, numbers),
    st.builds(pi.sparse, st.floats(0, 1), positive),
    st.builds(layers.fan_in_uniform, st.integers(1, 99)),
    st.builds(pi.like_jax, st.builds(pi.normal, st.just(0.0), positive)),
)


def combined(inner: st.SearchStrategy[Initializer]) -> st.SearchStrategy[Initializer]:
    several = st.lists(inner, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        st.builds(pi.scaled, inner, numbers),
        st.builds(pi.blocks, several, st.none(), st.integers(0, 1)),
        st.builds(lambda parts: pi.blocks(parts, (2,) * len(parts)), several),
        st.builds(pi.where, bounds | st.tuples(bounds, bounds), inner, inner),
        st.builds(layers.padded, inner, st.none() | st.integers(-2, 1)),
    )


INITIALIZERS = st.recursive(PLAIN, combined, max_leaves=5)
ARRAYS = [(4, 6), (6,), (3, 4, 2), (2, 2), (6, 3, 3), ()]
SCOPE = vars(pi) | vars(layers) | {"inf": math.inf}


def drawn(initializer: Initializer) -> list[bytes]:
    """The bytes of all arrays that it is defined for."""
    grids = [Grid.whole(shape, Layout((-1,), (-2,))) for shape in ARRAYS]
    return [values(initializer, grid).tobytes() for grid in grids if suits(initializer, grid)]


@settings(PROFILE, max_examples=200)
@given(INITIALIZERS)
def test_any_initializer_comes_back_from_json_pickle_and_print(initializer: Initializer):
    text = json.dumps(initializer_to_data(initializer), allow_nan=False)
    copies = [
        initializer_from_data(json.loads(text)),
        pickle.loads(pickle.dumps(initializer)),
        eval(repr(initializer), dict(SCOPE)),
    ]
    for copy in copies:
        assert copy == initializer
        assert hash(copy) == hash(initializer)
        assert repr(copy) == repr(initializer)
    assert eval(str(initializer), dict(SCOPE)) == initializer
    assert drawn(copies[0]) == drawn(initializer)


@settings(PROFILE, max_examples=150)
@given(INITIALIZERS, st.sampled_from(ARRAYS), st.sampled_from(["float32", "bfloat16", "complex64"]))
def test_check_raises_what_values_would(initializer: Initializer, shape: Shape, dtype: str):
    grid = Grid.whole(shape, Layout())
    if suits(initializer, grid, dtype):
        found = values(initializer, grid, dtype)
        assert (found.shape, found.dtype.name) == (shape, dtype)
        return
    with pytest.raises((ValueError, TypeError)):
        values(initializer, grid, dtype)


# Recipe texts: anything but a RecipeError is a bug, and what is read can be written and used

TRACED: dict[str, Any] = {
    "portinit": 1,
    "rules": [
        {
            "name": "a",
            "shape": [2, 3],
            "source": "net.py:3",
            "value": 2,
            "initializer": {
                "init": "expression",
                "nodes": [
                    {"op": "normal", "shape": [2, 3], "mean": 0.0, "std": 1.0},
                    {"op": "mul", "inputs": [0], "shape": [2, 3], "other": 0.5},
                ],
            },
        },
        {"name": "b", "shape": [2], "value": 3, "initializer": {"init": "program's data"}},
        {"name": "*.c", "kind": "linear", "layout": "flax", "initializer": {"init": "sparse",
         "sparsity": 0.5}},
        {"name": "d", "initializer": {"init": "unavailable", "reason": "net.py:4"}},
    ],
    "torch": "2.13.0+cpu",
    "program": [
        {"op": "seed", "shape": [], "seed": 3, "generator": 1},
        {"op": "normal", "shape": [2, 3], "mean": 0.0, "std": 1.0, "order": [1, 0]},
        {"op": "mul", "inputs": [1], "shape": [2, 3], "other": {"float": "inf"}},
        {"op": "data", "shape": [2], "bytes": {"base64": "AACAPwAAAMA="}},
        {"op": "full", "shape": [], "value": 1.0, "dtype": "bfloat16"},
        {"op": "randint", "shape": [4], "dtype": "int64", "low": 0, "high": 9},
        {"op": "opaque", "shape": [4], "name": "bernoulli"},
        {"op": "where", "inputs": [3, 4, 4], "shape": [2]},
    ],
}  # fmt: skip
TEXTS = ["", "*", "\ud800", "é", "a[0:9]", "AAAA", "=", "inf", "2.13", "float32", "add"]
ODD = st.one_of(
    st.sampled_from([None, True, False, 0, -1, 2**31, 2**63, 2**64, 10**400, -(10**320)]),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e308, -0.0, 5e-324]),
    st.sampled_from(TEXTS),
    st.sampled_from([[], {}, [[]], {"base64": "AA"}, {"float": "nan"}, {"init": "zeros"}]),
    st.just([2**40] * 9),
    st.text(max_size=4),
    st.lists(st.integers(-2, 9), max_size=4),
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(data, dict | list):
        for key, value in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(value, (*path, key))


def changed(data: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy of JSON data with the container of one place changed."""
    copy = json.loads(json.dumps(data))
    holder = copy
    for step in path[:-1]:
        holder = holder[step]
    change(holder, path[-1])
    return copy


@st.composite
def mutants(draw: st.DrawFn) -> Any:
    """A traced recipe with some fields replaced, dropped, moved or repeated."""
    data: Any = TRACED
    for _ in range(draw(st.integers(1, 3))):
        found = [path for path in places(data) if path]
        assume(found)
        value, other = draw(ODD), draw(st.sampled_from(found))
        moved = data
        for step in other:
            moved = moved[step]
        change = draw(
            st.sampled_from(
                [
                    lambda holder, key, value=value: holder.__setitem__(key, value),
                    lambda holder, key, moved=moved: holder.__setitem__(key, moved),
                    lambda holder, key: holder.__delitem__(key),
                    lambda holder, key: isinstance(holder, list) and holder.append(holder[key]),
                ]
            )
        )
        data = changed(data, draw(st.sampled_from(found)), change)
    return data


def read_and_used(text: str) -> None:
    """Read a text, and do with what is read all that needs no values."""
    try:
        recipe = Recipe.from_json(text)
    except RecipeError:
        return
    again = Recipe.from_json(recipe.to_json())
    assert again.to_json() == recipe.to_json()
    assert repr(again.rules) == repr(recipe.rules)
    assert all(len(str(rule.initializer)) >= 0 for rule in recipe.rules)
    hash(recipe)
    parameters = [Parameter(name, (2, 3), "linear", 3) for name in ("a", "b", "x.c")]
    with contextlib.suppress(RecipeError):
        recipe.bind(parameters)


@settings(PROFILE, max_examples=500)
@given(mutants())
def test_a_changed_traced_recipe_is_read_or_refused(data: Any):
    read_and_used(json.dumps(data))


@settings(PROFILE, max_examples=300)
@given(st.data())
def test_a_damaged_text_is_read_or_refused(data: st.DataObject):
    text = json.dumps(TRACED)
    for _ in range(data.draw(st.integers(1, 3))):
        positions = data.draw(slices(len(text)))
        stop = min(positions.stop, positions.start + 20)
        text = text[: positions.start] + data.draw(st.text(max_size=3)) + text[stop:]
    read_and_used(text)


@pytest.mark.slow
@settings(PROFILE, max_examples=20_000)
@given(mutants())
def test_many_changed_recipes_are_read_or_refused(data: Any):
    read_and_used(json.dumps(data))


NODES = {
    "an infinite input": {"op": "neg", "inputs": [math.inf], "shape": []},
    "half an input": {"op": "neg", "inputs": [0.5], "shape": []},
    "inputs in a text": {"op": "neg", "inputs": "00", "shape": []},
    "itself as input": {"op": "neg", "inputs": [1], "shape": []},
    "a later input": {"op": "neg", "inputs": [2], "shape": []},
    "an input before the first": {"op": "neg", "inputs": [-1], "shape": []},
    "an operation in a list": {"op": ["neg"], "inputs": [0], "shape": []},
    "a shape that is a number": {"op": "neg", "inputs": [0], "shape": 3},
    "a shape of truths": {"op": "neg", "inputs": [0], "shape": [True]},
    "a negative shape": {"op": "neg", "inputs": [0], "shape": [-1]},
    "no shape": {"op": "neg", "inputs": [0]},
    "a dtype in a list": {"op": "neg", "inputs": [0], "shape": [], "dtype": ["float32"]},
    "data without bytes": {"op": "data", "shape": []},
    "data in a text": {"op": "data", "shape": [], "bytes": "abcd"},
    "too little data": {"op": "data", "shape": [2], "bytes": {"base64": "AAAAAA=="}},
    "less data than 2**40 numbers": {"op": "data", "shape": [2**40], "bytes": {"base64": ""}},
    "full of nothing": {"op": "full", "shape": []},
    "full of text": {"op": "full", "shape": [], "value": "1"},
    "full of too many digits": {"op": "full", "shape": [], "value": 10**400},
    "a number of 65 bits": {"op": "add", "inputs": [0], "shape": [], "other": 2**64},
    "an attribute that is a list of halves": {"op": "neg", "inputs": [0], "shape": [], "x": [0.5]},
    "an attribute that is nested": {"op": "neg", "inputs": [0], "shape": [], "x": [[1]]},
    "an attribute that is an object": {"op": "neg", "inputs": [0], "shape": [], "x": {"y": 1}},
}


@pytest.mark.parametrize("node", NODES.values(), ids=NODES)
def test_a_malformed_node_is_a_recipe_error(node: Any):
    first = {"op": "full", "shape": [], "value": 1.0}
    program = {"portinit": 1, "rules": [], "torch": "2.13", "program": [first, node]}
    with pytest.raises(RecipeError, match="node 1"):
        Recipe.from_json(json.dumps(program))
    with pytest.raises(ValueError, match="node 1"):
        initializer_from_data({"init": "expression", "nodes": [first, node]})


def test_a_rule_cannot_share_what_is_no_data():
    rule = {"name": "a", "value": 0, "initializer": {"init": "program's data"}}
    node = {"op": "full", "shape": [], "value": 1.0}
    with pytest.raises(RecipeError, match=r"rule 0.*data"):
        Recipe.from_json(json.dumps(TRACED | {"rules": [rule], "program": [node]}))


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_a_number_that_no_float_holds_is_refused_when_read(number: int):
    rule = {"name": "*", "initializer": {"init": "constant", "val": number}}
    with pytest.raises(RecipeError, match=r"rule 0.*float"):
        Recipe.from_json(json.dumps({"portinit": 1, "rules": [rule]}))


def nested(depth: int) -> str:
    inner = '{"init": "scaled", "factor": 1, "initializer": ' * depth
    return (
        '{"portinit": 1, "rules": [{"name": "*", "initializer": '
        + inner + '{"init": "zeros"}' + "}" * depth + "}]}"
    )  # fmt: skip


@pytest.mark.parametrize("depth", [50, 90, 100, 150, 200, 300, 900])
def test_what_is_read_is_not_too_deep_to_print_and_to_write(depth: int):
    read_and_used(nested(depth))
    if depth <= 90:
        assert Recipe.from_json(nested(depth)).rules
    else:
        with pytest.raises(RecipeError, match=r"100 levels|JSON"):
            Recipe.from_json(nested(depth))


@pytest.mark.parametrize("brackets", ["[]", '{"x":}'], ids=["lists", "objects"])
@pytest.mark.parametrize("field", ["program", "rules", "portinit", "torch"])
def test_data_of_any_depth_is_refused(field: str, brackets: str):
    start, end = brackets[:-1], brackets[-1]
    for depth in (99, 300, 900, 990, 2000, 100_000):
        deep = start * depth + "0" + end * depth
        rest = {key: json.dumps(value) for key, value in TRACED.items() if key != field}
        members = [f'"{key}": {text}' for key, text in {**rest, field: deep}.items()]
        with pytest.raises(RecipeError):
            Recipe.from_json("{" + ", ".join(members) + "}")


def test_reading_huge_shapes_allocates_nothing():
    huge_nodes = [{"op": "normal", "shape": [2**40, 2**20], "mean": 0.0, "std": 1.0}] * 50
    rule = {"name": "a", "shape": [2**40], "value": 0, "initializer": {"init": "zeros"}}
    text = json.dumps(TRACED | {"rules": [rule] * 50, "program": huge_nodes})
    tracemalloc.start()
    try:
        read_and_used(text)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def test_an_expression_that_doubles_at_each_node_is_printed_at_once():
    nodes: list[Any] = [{"op": "full", "shape": [], "value": 1.5}]
    nodes += [{"op": "add", "inputs": [i, i], "shape": []} for i in range(2000)]
    initializer = initializer_from_data({"init": "expression", "nodes": nodes})
    assert str(initializer).startswith("((((")
    assert len(str(initializer)) == 200
    few = initializer_from_data({"init": "expression", "nodes": nodes[:3]})
    assert str(few) == "((1.5 + 1.5) + (1.5 + 1.5))"
