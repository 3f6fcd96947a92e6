"""Keys out of torch's generators."""

from __future__ import annotations

import torch

from portinit import Key
from portinit.backends.base import Words
from portinit_torch.memory import is_watched


def words_from_generator(generator: torch.Generator | None = None) -> Words:
    """The words of :func:`key_from_generator`'s key.

    Within a transform, a tracer or a mode, whose numbers cannot be read, they are tensors of int32.
    So a graph draws anew each time it runs, and ``torch.func.vmap`` decides by its ``randomness``.
    """
    if generator is None:
        words = torch.randint(1 << 32, (2,), device="cpu")
    else:
        words = torch.randint(1 << 32, (2,), generator=generator, device=generator.device)
    if not is_watched():
        high, low = words.tolist()
        return high, low
    signed = (words - (words >> 31 << 32)).to(torch.int32)
    return signed[0], signed[1]


def key_from_generator(generator: torch.Generator | None = None) -> Key:
    """A key of two words drawn from a generator; torch's default CPU generator if none is given.

    The words are drawn where the generator lives, so with the default generator a seed gives the
    same key, and so the same weights, on every device.

    Args:
        generator: a generator of any device; PyTorch's default CPU generator if None.

    Returns:
        A key, as ``portinit.key`` makes them.

    >>> import portinit_torch, torch
    >>> generator = torch.Generator().manual_seed(0)
    >>> one = portinit_torch.key_from_generator(generator)
    >>> one == portinit_torch.key_from_generator(torch.Generator().manual_seed(0))
    True
    """
    high, low = words_from_generator(generator)
    return Key(int(high) & 0xFFFFFFFF, int(low) & 0xFFFFFFFF)
