"""Every promise of docs/guarantees.md names a test that is there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROMISE = re.compile(
    r"^- \*\*(?P<promise>.+?)\.\*\*.+?^  `(?P<file>[\w/.]+)::(?P<test>\w+)`$",
    re.MULTILINE | re.DOTALL,
)
TEXT = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
PROMISES = [match.groupdict() for match in PROMISE.finditer(TEXT)]


def test_every_promise_names_a_test() -> None:
    assert PROMISES
    assert len(PROMISES) == TEXT.count("\n- **")


@pytest.mark.parametrize("row", PROMISES, ids=lambda row: row["promise"])
def test_the_test_of_a_promise_is_there(row: dict[str, str]) -> None:
    tree = ast.parse((ROOT / "tests" / row["file"]).read_text("utf-8"))
    assert row["test"] in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
