"""Haiku's ``w_init=`` and its like: portinit's initializers, called with a shape and a dtype."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import haiku as hk
import jax

from portinit import Initializer, Layout
from portinit_jax.keys import as_key, fold_in

CONV_TRANSPOSE = Layout(axis0=(-1,), axis1=(-2,), flip=True, roles="io")
"""How ``hk.ConvNDTranspose`` holds its ``w``, (..., out, in), with space reversed."""


@dataclass(frozen=True)
class HaikuInitializer(hk.initializers.Initializer):  # type: ignore[misc]
    """What :func:`initializer` gives: a callable of Haiku's, ``(shape, dtype) -> array``.

    Attributes:
        values: portinit's initializer.
        key: the key of all modules; None for ``hk.next_rng_key()``.
        layout: how the array's axes map to PyTorch's.
    """

    values: Initializer
    key: Any = None
    layout: Layout | str | None = None

    def __call__(self, shape: Sequence[int], dtype: Any) -> jax.Array:
        if self.key is None:
            key = hk.next_rng_key()
        else:
            key = fold_in(as_key(self.key), hk.current_name())
        array: jax.Array = self.values(key, shape, dtype, xp=jax.numpy, layout=self.layout)
        return array


def initializer(
    values: Initializer, key: Any = None, *, layout: Layout | str | None = None
) -> HaikuInitializer:
    """Make one of Haiku's initializers of one of portinit's, for ``w_init=``, ``b_init=``, ....

    Args:
        values: portinit's initializer.
        key: by default a parameter draws with ``hk.next_rng_key()``, as from Haiku's own
            initializers. With a :class:`portinit.Key` or a JAX key it draws with
            ``key.fold_in(hk.current_name())``, so that neither order nor another module changes
            it. Give each argument of one module a key of its own.
        layout: how the array's axes map to PyTorch's; by default a ``w`` is a kernel,
            (..., in, out). ``"rows"`` is for the ``embeddings`` of ``hk.Embed`` and
            ``portinit_haiku.CONV_TRANSPOSE`` for ``hk.ConvNDTranspose``, where an initializer
            has fans.

    Returns:
        A callable that takes a shape and a dtype inside ``hk.transform``.

    Raises:
        TypeError: ``values`` is no initializer of portinit's.

    >>> import haiku as hk, jax
    >>> import portinit, portinit_haiku
    >>> w_init = portinit_haiku.initializer(portinit.he_normal())
    >>> net = hk.transform(lambda x: hk.Linear(4, w_init=w_init)(x))
    >>> net.init(jax.random.key(0), jax.numpy.ones((1, 3)))["linear"]["w"].shape
    (3, 4)
    """
    if not isinstance(values, Initializer):
        raise TypeError(
            f"an initializer of portinit's is needed, such as portinit.he_normal(), got {values!r}"
        )
    return HaikuInitializer(values, key, layout)
