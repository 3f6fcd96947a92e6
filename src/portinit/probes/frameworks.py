"""The frameworks whose models portinit knows, told by the classes that a model comes from."""

from __future__ import annotations

from typing import Any

ADAPTERS = {
    "torch": "portinit_torch",
    "flax": "portinit_flax",
    "keras": "portinit_keras",
    "equinox": "portinit_equinox",
    "haiku": "portinit_haiku",
    "mlx": "portinit_mlx",
}
"""The adapters of frameworks that have models, by the top-level module of their classes."""

CALLED = {
    "torch": "PyTorch",
    "flax": "Flax",
    "keras": "Keras",
    "equinox": "Equinox",
    "haiku": "Haiku",
    "mlx": "MLX",
}
"""The frameworks' names in messages."""


def framework_of(made: Any) -> str | None:
    """The framework of a model by a class that its own comes from; None if none is known.

    A model of Keras's is one on every backend, though on PyTorch's it is a ``torch.nn.Module`` too.
    """
    model = made[0] if type(made) is tuple and made else made  # Equinox's, with its State
    for base in type(model).__mro__:
        root = base.__module__.partition(".")[0]
        if root in ADAPTERS:
            return root
    return None
