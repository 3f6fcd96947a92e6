"""The interface that each format of weight files implements."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Self

from portinit.arrays.convert import Array
from portinit.arrays.layouts import Shape


class WeightFile:
    """An open weight file.

    Args:
        file: its path.
        section: the keys that lead to the tensors; only ``torch.save``'s files have such.
    """

    sections = False

    def __init__(self, file: str, section: str) -> None:
        self.file = file
        if section and not self.sections:
            raise ValueError(f"{file} has no sections, got section={section!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""

    def names(self) -> list[str]:
        """The names of the tensors."""
        raise NotImplementedError

    def shape(self, name: str) -> Shape:
        """The shape of a tensor, from its header."""
        raise NotImplementedError

    def dtype(self, name: str) -> str:
        """The name of a tensor's dtype, from its header."""
        raise NotImplementedError

    def metadata(self) -> Mapping[str, str]:
        """The texts in the file's header."""
        return {}

    def verify(self, name: str) -> None:
        """Raise a ValueError if the tensor cannot be read."""
        raise NotImplementedError

    def read(self, name: str) -> Array:
        """The values of a tensor."""
        raise NotImplementedError

    def require(self, name: str) -> None:
        """Raise a ValueError if the file holds no tensor of this name."""
        if name not in self.names():
            known = ", ".join(sorted(self.names()))
            raise ValueError(f"{self.file} holds {known}; got the name {name!r}")


@contextlib.contextmanager
def damage_explained(file: str, name: str = "") -> Iterator[None]:
    """Turn whatever a library raises on a damaged file into a ValueError that names the file.

    What the operating system says (no such file, a disk's error) stays an OSError.
    """
    try:
        yield
    except (OSError, ImportError):
        raise
    except Exception as error:
        place = f"{file}: {name}" if name else file
        raise ValueError(f"{place} is damaged: {str(error) or type(error).__name__}") from error
