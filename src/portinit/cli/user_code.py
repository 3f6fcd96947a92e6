"""Code of the user's own: its errors are shown by its own frames."""

from __future__ import annotations

import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

import portinit

_OURS = (str(Path(portinit.__file__).parent), "portinit_torch", "portinit_jax", "portinit_flax")


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


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The user's frames; where all are of installed packages, those that are not portinit's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    return [frame for frame in frames if not _is_installed(frame.filename)] or frames[-3:]


def _is_ours(name: str) -> bool:
    parts = Path(name).parts
    return name.startswith(_OURS[0]) or any(package in parts for package in _OURS[1:])


def _is_installed(name: str) -> bool:
    paths = sysconfig.get_paths()
    roots = {paths["stdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages()}
    roots |= {sys.prefix} if sys.prefix != sys.base_prefix else set()
    return name.startswith("<") or any(name.startswith(root) for root in roots)
