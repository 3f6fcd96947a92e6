"""Warnings that point at the line where a user called portinit, however deep they are found."""

from __future__ import annotations

import inspect
import warnings


def warn_caller(text: str) -> None:
    """Warn at the call of portinit, or of an adapter of it."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("portinit"):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)
