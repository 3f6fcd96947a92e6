"""Threefry-2x32-20, the counter-based generator behind every draw.

One function serves Python integers and arrays of every namespace: the operations are 32-bit
additions, rotations and exclusive ors. Arrays of int32 wrap by themselves; Python integers are
wrapped by the function passed as ``wrap``.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portinit.random.shifts import rotate_left

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def _keep(x: Any) -> Any:
    return x


def threefry2x32(
    key: tuple[Any, Any], counter: tuple[Any, Any], wrap: Callable[[Any], Any] = _keep
) -> tuple[Any, Any]:
    """Encrypt a counter of two 32-bit words under a key of two 32-bit words.

    Args:
        key: two words.
        counter: two words.
        wrap: reduces a sum or a left shift to 32 bits; needed for Python integers only.

    Returns:
        Two words, of the kind (and, for arrays, the broadcast shape) of the arguments.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x, y = wrap(counter[0] + schedule[0]), wrap(counter[1] + schedule[1])
    for group in range(5):
        for distance in _ROTATIONS[group % 2]:
            x = wrap(x + y)
            y = rotate_left(y, distance, wrap) ^ x
        x = wrap(x + schedule[(group + 1) % 3])
        # The key's word and the number are added first: that is one sum for all elements.
        y = wrap(y + wrap(schedule[(group + 2) % 3] + (group + 1)))
    return x, y
