"""Recipes to read: the rows of a table, as text for a terminal and as HTML for a notebook."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout, Shape
from portinit.initializers.base import Initializer, Random
from portinit.initializers.fans import torch_fans
from portinit.recipes.rule import Rule
from portinit.recipes.serialization import layout_to_data

Table = tuple[list[str], list[list[str]]]

SHOWN = 40
"""How many rules an interactive prompt shows; print shows all."""


def table_of(rules: Sequence[Rule]) -> Table:
    """The headings of the columns that say anything, and a row a rule."""
    rows = [_row(rule) for rule in rules]
    headings = [name for name in _COLUMNS if any(row[name] for row in rows)]
    return headings, [[row[name] for name in headings] for row in rows]


_COLUMNS = ("name", "of", "shape", "initializer", "layout in Flax", "std", "fans", "drawn as",
            "written at")  # fmt: skip


def _row(rule: Rule) -> dict[str, str]:
    cells = (
        rule.name or rule.pattern,
        rule.kind or rule.layer or "",
        "" if rule.shape is None else in_shape(rule.shape),
        in_words(rule.initializer),
        "" if rule.layout is None else str(layout_to_data(rule.layout)),
        _expected_std(rule),
        _fans(rule),
        rule.drawn_as or "",
        rule.source or "",
    )
    return dict(zip(_COLUMNS, cells, strict=True))


def as_text(rules: Sequence[Rule], limit: int | None = None) -> str:
    """An aligned table; of more rules than the limit, the first and the last."""
    if limit is not None and len(rules) > limit:
        headings, rows = table_of([*rules[: limit // 2], *rules[-(limit // 2) :]])
        rows.insert(limit // 2, [f"... {len(rules) - limit} more", *[""] * (len(headings) - 1)])
    else:
        headings, rows = table_of(rules)
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (headings, *rows)
    )
    return "\n".join(lines)


def as_html(rules: Sequence[Rule]) -> str:
    """A table in a box that scrolls, in the notebook's own colours."""
    headings, rows = table_of(rules)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        '<div style="max-height: 30em; overflow: auto">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def in_words(initializer: Initializer) -> str:
    """An initializer as its call, with numbers of four digits."""
    return rounded(str(initializer))


def rounded(call: str) -> str:
    """A call's text with its numbers cut to four digits."""
    return re.sub(r"\d+\.\d{4,}(e-?\d+)?", lambda number: f"{float(number[0]):.4g}", call)


def in_shape(shape: Shape) -> str:
    """A shape as ``64 x 32``."""
    return " x ".join(map(str, shape)) or "scalar"


def _fans(rule: Rule) -> str:
    if rule.shape is None or len(rule.shape) < 2:
        return ""
    return "{} in, {} out".format(*torch_fans(rule.shape))


def _expected_std(rule: Rule) -> str:
    if rule.shape is None or not isinstance(rule.initializer, Random):
        return ""
    roles = rule.layout.roles if rule.layout else "oi"
    try:
        law = rule.initializer.element_distribution(Grid.whole(rule.shape, Layout(roles=roles)))
    except ValueError:  # not defined for the shape: applying the recipe says so
        return ""
    return f"{law.std:.4g}"
