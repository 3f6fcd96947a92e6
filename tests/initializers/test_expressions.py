"""Expressions on portinit's stream: integers, permutations, and what a page shows of one."""

from typing import Any

import numpy as np
import pytest

import portinit as pi
from portinit.initializers.expression import PortinitStream, expression, unavailable
from portinit.replay.operations import apply
from portinit.replay.program import Node

KEY = pi.key(11)
DICE = Node("randint", (), (60_000,), "int64", {"low": -2, "high": 4})


def stream() -> PortinitStream:
    return PortinitStream(KEY.words)


def test_integers_are_evenly_drawn_between_their_bounds() -> None:
    values, counts = np.unique(stream().draw(DICE), return_counts=True)
    assert values.tolist() == [-2, -1, 0, 1, 2, 3]
    assert (abs(counts - 10_000) < 5 * 92).all()  # sigma of binomial(60000, 1/6) is 91.3


def test_a_permutation_has_each_number_once() -> None:
    order = stream().draw(Node("randperm", (), (1000,), "int64"))
    assert order.dtype == np.int64
    assert order.tolist() != sorted(order.tolist()) == [*range(1000)]


def test_each_draw_has_a_stream_whether_it_is_kept_or_not() -> None:
    two, other = stream(), stream()
    first, second = two.draw(DICE), two.draw(DICE)
    other.skip(DICE)
    assert np.array_equal(other.draw(DICE), second)
    assert (first == second).mean() < 0.2  # of equal chances, one in six


def test_what_is_no_draw_has_no_values() -> None:
    with pytest.raises(ValueError, match=r"one of uniform, .*randperm; got 'opaque'"):
        stream().draw(Node("opaque", (), (2,), "float32"))


def test_an_expression_prints_as_a_formula() -> None:
    draw = Node("normal", (), (3,), "float32", {"mean": 0.0, "std": 0.5})
    halved = Node("mul", (0,), (3,), "float32", {"other": 0.5})
    rest = Node("sub", (1,), (3,), "float32", {"other": 1, "reverse": True})
    assert str(expression((draw, halved, rest))) == "(1 - (normal(mean=0, std=0.5) * 0.5))"


def test_what_cannot_be_given_says_why() -> None:
    with pytest.raises(ValueError, match=r"^a tensor from a file$"):
        unavailable("a tensor from a file")(KEY, (3,))


@pytest.mark.parametrize("order", [None, (1, 0)])
def test_a_window_of_a_tensor_is_written_where_it_lies_in_memory(order: Any) -> None:
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    window = {"size": (2,), "stride": (2,), "offset": 1} | ({"order": order} if order else {})
    memory = (x if order is None else x.T).ravel().copy()
    memory[[1, 3]] = [70, 80]
    expected = memory.reshape(2, 3) if order is None else memory.reshape(3, 2).T
    found = apply("scatter", window, [x, np.float32([70, 80])], (2, 3), "float32")
    assert np.array_equal(found, expected)


def test_what_is_no_operation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"an operation must be one of add, .*; got 'fft'"):
        apply("fft", {}, [np.zeros(2)], (2,), "float64")
