"""The rows of the conformance test, one for each framework that portinit fills."""

from tests.support.frameworks.array_namespaces import Cupy, Dask, Numpy, Strict
from tests.support.frameworks.equinox_models import Equinox
from tests.support.frameworks.flax_models import Linen, Nnx
from tests.support.frameworks.framework import Framework
from tests.support.frameworks.haiku_models import Haiku
from tests.support.frameworks.jax_trees import Jax
from tests.support.frameworks.keras_models import KERAS
from tests.support.frameworks.mlx_models import Mlx
from tests.support.frameworks.torch_modules import Torch

ROWS: list[Framework] = [
    *(Numpy(), Strict(), Dask(), Cupy(), Torch(), Jax(), Linen(), Nnx(), *KERAS),
    *(Equinox(), Haiku(), Mlx()),
]

FRAMEWORKS = {row.name: row for row in ROWS}
"""The rows by name."""
