"""Keys: two 32-bit words, equal to those of JAX's threefry keys."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass

from portinit.random.threefry import threefry2x32


def _wrap32(x: int) -> int:
    return x & 0xFFFFFFFF


@dataclass(frozen=True)
class Key:
    """A key of two unsigned 32-bit words; make one with :func:`key`.

    The words are those of ``jax.random.key_data`` for the same seed, fold or split, so a stream
    begun in NumPy continues in JAX.

    Attributes:
        high: the first word, 0 <= high < 2**32.
        low: the second word, 0 <= low < 2**32.

    >>> import portinit
    >>> portinit.key(0).fold_in(1)
    Key(high=928981903, low=3453687069)
    """

    high: int
    low: int

    def __post_init__(self) -> None:
        for name in ("high", "low"):
            given = getattr(self, name)
            word = operator.index(given)
            if not 0 <= word < 1 << 32:
                raise ValueError(f"a key word must be in [0, 2**32), got {word}")
            if type(given) is not int:  # NumPy's integers would not wrap alike
                object.__setattr__(self, name, int(word))

    @property
    def words(self) -> tuple[int, int]:
        """The two words, high first."""
        return self.high, self.low

    def fold_in(self, data: int | str) -> Key:
        """A child key for a number or a name.

        A number in [0, 2**32) gives ``jax.random.fold_in``'s own words. A name folds in the first
        eight bytes of the SHA-256 of its UTF-8 text, as two big-endian words one after the other:
        with 32 bits the names of a large model would collide.

        Args:
            data: a number in [0, 2**32), or a name such as ``"layers.0.weight"``.

        Raises:
            ValueError: the number is out of range.
            TypeError: neither a number nor a name.
        """
        child = self
        for word in fold_words(data):
            child = Key(*threefry2x32(child.words, (0, word), _wrap32))
        return child

    def split(self, num: int = 2) -> tuple[Key, ...]:
        """``num`` child keys: those of ``jax.random.split(key, num)``."""
        if operator.index(num) < 0:
            raise ValueError(f"num must be 0 or more, got {num}")
        return tuple(self.fold_in(i) for i in range(num))


def fold_words(data: int | str) -> tuple[int, ...]:
    """The 32-bit words that ``fold_in(data)`` folds in, one after the other."""
    if isinstance(data, str):
        digest = hashlib.sha256(data.encode()).digest()
        return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")
    try:
        number = operator.index(data)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(f"fold_in takes an int or a str, got {kind}") from None
    if not 0 <= number < 1 << 32:
        raise ValueError(f"fold_in takes an int in [0, 2**32), got {number}")
    return (number,)


def key(seed: int) -> Key:
    """The key of a seed, equal to ``jax.random.key(seed)`` with 64-bit mode on.

    With JAX's 64-bit mode off, JAX drops the seed's high word; portinit never does.

    Args:
        seed: 0 <= seed < 2**64.

    Returns:
        The key.

    >>> key(7).words
    (0, 7)
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise TypeError(
            "a seed must be an integer in [0, 2**64), got "
            f"{seed!r} of {type(seed).__name__}{_seed_hint(seed)}"
        ) from None
    if not 0 <= number < 1 << 64:
        raise ValueError(f"a seed must be in [0, 2**64), got {number}")
    return Key(number >> 32, number & 0xFFFFFFFF)


def _seed_hint(seed: object) -> str:
    """How to make a key of what is no integer, where that is known."""
    if isinstance(seed, str):
        return f'; fold a name in: portinit.key(0).fold_in("{seed}")'
    if type(seed).__name__.endswith("Tracer"):  # JAX's, which need not be installed
        return "; under jax.jit pass jax.random.key(seed), whose words may be traced"
    return ""
