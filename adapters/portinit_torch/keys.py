"""Keys out of torch's generators."""

from __future__ import annotations

import torch

from portinit import Key


def words_from_generator(generator: torch.Generator | None = None) -> tuple[int, int]:
    """The words of :func:`key_from_generator`'s key."""
    device = "cpu" if generator is None else generator.device
    high, low = torch.randint(1 << 32, (2,), generator=generator, device=device).tolist()
    return high, low


def key_from_generator(generator: torch.Generator | None = None) -> Key:
    """A key of two words drawn from a generator; torch's default CPU generator if none is given.

    The words are drawn where the generator lives, so with the default generator a seed gives the
    same key, and so the same weights, on every device.
    """
    return Key(*words_from_generator(generator))
