"""The keys that Flax's linen and nnx hand to the initializer of each parameter.

linen hashes the path of the parameter's scope together with a count of the scope's draws; nnx
counts the draws of a stream over the whole model. Neither looks at the parameter's own name, so
the order of creation matters. That holds for Flax's and JAX's defaults: threefry keys, and
``flax_fix_rng_separator`` off.

Source: flax 0.12's ``flax.core.scope`` and ``flax.nnx.rnglib``.
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Iterable, Sequence

from portinit.random.keys import Key

Path = str | Sequence[str]

_LAST = {"bias"}
"""Flax's layers create their bias after their kernel or scale, though trees may list it before."""

_LAYERS = ({"kernel", "bias"}, {"scale", "bias"})


def linen_key(root: Key, scope: Path, count: int) -> Key:
    """The key of a linen scope's draw: the ``count``-th ``make_rng("params")``, from 1.

    The root folded with the first four bytes of the SHA-1 of the scope's names and the count.
    In a scope that ``nn.vmap`` or ``nn.scan`` splits over ``n`` layers the root of layer ``i`` is
    ``root.split(n)[i]``.

    Args:
        root: the key given to ``module.init``, or to its ``"params"``.
        scope: the module's path, without the parameter's own name: ``"layers_0/attn"``; the
            whole model's is ``""``.
        count: 1 for the scope's first parameter (or other draw), 2 for the next.

    Returns:
        The key that Flax hands to the initializer.

    Raises:
        ValueError: a count below 1.

    >>> import portinit
    >>> linen_key(portinit.key(0), "Dense_0", 1)
    Key(high=3043437727, low=3662875008)
    """
    number = operator.index(count)
    if number < 1:
        raise ValueError(f"count must be 1 or more, got {count}")
    digest = hashlib.sha1("".join(_names(scope)).encode(), usedforsecurity=False)
    digest.update(number.to_bytes((number.bit_length() + 7) // 8, "big"))
    return root.fold_in(int.from_bytes(digest.digest()[:4], "big"))


def linen_keys(root: Key, paths: Iterable[Path], *, traces: int = 1) -> dict[str, Key]:
    """The keys of a linen model's parameters: those of ``model.init(root, ...)``.

    Args:
        root: the key given to ``module.init``, or to its ``"params"``.
        paths: of all parameters, as ``"layers_0/attn/kernel"`` or tuples of names; those of one
            scope in their order of creation. The order between scopes does not matter, and a
            kernel or scale comes before its bias however they are listed.
        traces: how often Flax runs the modules before the run that counts, and that one: 2 for
            what is inside an ``nn.scan`` that splits the parameters' keys.

    Returns:
        A key for each path, the path's names joined by ``/``.

    Raises:
        ValueError: a path that is given twice.

    What else draws in a scope (a ``make_rng`` of the module's own code, for a stream that
    ``init`` was not given or for ``"params"``) counts too: give such a module's parameters their
    keys by :func:`linen_key`.

    >>> import portinit
    >>> keys = linen_keys(portinit.key(0), ["Dense_0/kernel", "Dense_0/bias"])
    >>> keys["Dense_0/bias"] == linen_key(portinit.key(0), "Dense_0", 2)
    True
    """
    scopes: dict[tuple[str, ...], list[str]] = {}
    for *scope, leaf in map(_names, paths):
        scopes.setdefault(tuple(scope), []).append(leaf)
    keys: dict[str, Key] = {}
    for path, leaves in scopes.items():
        before = (traces - 1) * len(leaves)
        for count, leaf in enumerate(_in_creation_order(leaves), before + 1):
            name = "/".join((*path, leaf))
            _add(keys, name, linen_key(root, path, count))
    return keys


def _in_creation_order(leaves: list[str]) -> list[str]:
    return sorted(leaves, key=_LAST.__contains__) if set(leaves) in _LAYERS else leaves


def nnx_key(root: Key, count: int) -> Key:
    """The key of a draw of ``nnx.Rngs``: the stream's key folded with the count, from 0.

    Args:
        root: the stream's key: ``portinit.key(0)`` for ``nnx.Rngs(0)`` and ``nnx.Rngs(params=0)``.
        count: the number of draws before.

    Returns:
        The key that Flax hands to the initializer.

    >>> import portinit
    >>> nnx_key(portinit.key(0), 1) == portinit.key(0).fold_in(1)
    True
    """
    return root.fold_in(count)


def nnx_keys(root: Key, paths: Iterable[Path | None], *, start: int = 0) -> dict[str, Key]:
    """The keys of an nnx model's parameters: those of ``Model(rngs=nnx.Rngs(seed))``.

    Args:
        root: the key of the stream that the parameters draw from: ``params`` where ``nnx.Rngs``
            was given one, else the default stream.
        paths: of all parameters, constants among them, in the order in which the constructors
            create them; None for a draw that makes no parameter (with a default stream,
            ``nnx.Dropout`` takes one).
        start: the number of draws before the first.

    Returns:
        A key for each path, the path's names joined by ``/``.

    Raises:
        ValueError: a path that is given twice.

    >>> import portinit
    >>> keys = nnx_keys(portinit.key(0), ["linear/kernel", "linear/bias"])
    >>> keys["linear/bias"] == nnx_key(portinit.key(0), 1)
    True
    """
    keys: dict[str, Key] = {}
    for count, path in enumerate(paths, start):
        if path is not None:
            _add(keys, "/".join(_names(path)), nnx_key(root, count))
    return keys


def _names(path: Path) -> tuple[str, ...]:
    return tuple(name for name in path.split("/") if name) if isinstance(path, str) else tuple(path)


def _add(keys: dict[str, Key], name: str, key: Key) -> None:
    if name in keys:
        raise ValueError(f"each path must be given once, got {name} twice")
    keys[name] = key
