"""What a pair of an array and a parameter rests on, and what its layout does."""

from __future__ import annotations

from enum import IntEnum


class Evidence(IntEnum):
    """What a pair of an array and a parameter rests on, the surest first."""

    TABLE = 0
    """The user's table says so."""
    NAME = 1
    """The names read the same but for separators and Flax's words for a leaf."""
    REWRITTEN = 2
    """The names read the same once other usual words are translated and lists are numbered."""
    USE = 3
    """Of all modules of these sizes the forward passes reach them in the same turn, as the data
    flows, and do the same with them."""
    WORDS = 4
    """Of all arrays of this size the names are the most alike, by a clear margin."""
    STRUCTURE = 5
    """Nothing else in the modules paired so far has this size."""
    ORDER = 6
    """Modules of equal shapes were paired in the order in which they are defined, or run."""

    @property
    def certainty(self) -> str:
        """``"stated"``, ``"certain"``, ``"likely"`` or ``"assumed"``."""
        certainties = ("stated", "certain", "certain", "likely", "likely", "likely", "assumed")
        return certainties[self]


class LayoutEvidence(IntEnum):
    """What the layout of a pair rests on, the surest first."""

    STATED = 0
    """The user's table or the recipe says so, or there is nothing to tell apart."""
    SHAPE = 1
    """No other layout gives PyTorch's shape."""
    CONTRACTION = 2
    """The forward passes sum over these axes, and over no others."""
    CLASS = 3
    """The module's class has this layout."""
    SIBLINGS = 4
    """Arrays of the same kind whose shapes leave no choice have this layout."""
    CONVENTION = 5
    """Arrays of this name have this layout in Flax, such as ``kernel`` and ``embedding``."""
    ASSUMED = 6
    """The shape fits more than one layout, and nothing tells them apart."""


def is_sure(evidence: Evidence, layout_evidence: LayoutEvidence) -> bool:
    """Whether evidence of these kinds makes a pair and its layout no guess."""
    return evidence <= Evidence.REWRITTEN and layout_evidence <= LayoutEvidence.CONVENTION
