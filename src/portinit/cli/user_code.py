"""Code of the user's own: its errors are shown by its own frames."""

from __future__ import annotations

import site
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

import portinit
from portinit.probes.frameworks import ADAPTERS

_CORE = str(Path(portinit.__file__).parent)
_FRAMEWORKS = {*ADAPTERS, "jax", "jaxlib", "numpy", "tensorflow"}
_ADAPTERS = {*ADAPTERS.values(), "portinit_jax"}


@contextmanager
def running(what: str) -> Iterator[None]:
    """Run code of the user's: an exception ends the command, told by the user's frames alone.

    Args:
        what: the code, as the start of the sentence ``... raised ValueError: ...``.

    Raises:
        click.ClickException: in the place of the exception.
    """
    try:
        yield
    except click.ClickException:
        raise
    except Exception as error:
        if type(error).__module__.startswith("portinit"):  # says itself what is wrong
            raise
        lines = [f"{what} raised {type(error).__name__}: {error}".rstrip(": ")]
        frames = _frames(error)
        if frames:
            lines += ["", *traceback.format_list(frames)]
        raise click.ClickException("\n".join(lines).rstrip()) from error


def shielded(factory: Callable[[], Any], target: str) -> Callable[[], Any]:
    """A factory whose errors are told by the user's own frames."""

    def make() -> Any:
        with running(target):
            return factory()

    return make


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The user's frames; where there are none, those of a library that has the model."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_beneath(f.filename)]
    users = [frame for frame in frames if not _is_installed(frame.filename)]
    return users or [frame for frame in frames if not frame.filename.startswith("<")][-3:]


def _is_beneath(name: str) -> bool:
    """Whether a file is of portinit or of a framework."""
    parts = {*Path(name).parts}
    ours = name.startswith(_CORE) or parts & _ADAPTERS
    return bool(ours or (_is_installed(name) and parts & _FRAMEWORKS))


def _is_installed(name: str) -> bool:
    paths = sysconfig.get_paths()
    roots = {paths["stdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()}
    roots |= {sys.prefix} if sys.prefix != sys.base_prefix else set()
    return name.startswith("<") or any(name.startswith(root) for root in roots)
