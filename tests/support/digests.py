"""Digests of initializers in NumPy, torch and JAX, and of expressions that are not portable.

As a script it prints them as JSON; a test runs it where parts of the processor are switched off.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    root = Path(__file__).parents[2]
    sys.path[:0] = [str(root / "src"), str(root / "adapters"), str(root / "tests")]

import jax
import jax.numpy as jnp
import numpy as np
import torch

import portinit as pi
from portinit.verify.table import CONVOLUTIONS, MATRICES, PLAIN, SCHEMES

KEY = pi.key(0xC0FFEE).fold_in("layers.0.weight")

# A scheme is one of three distributions; each has a row here.
ROWS = {
    **{name: (row, (61, 67)) for name, row in PLAIN.items()},
    **{name: (SCHEMES[name], (61, 67)) for name in ("xavier_uniform", "kaiming_normal")},
    **{name: (row, (60, 48)) for name, row in MATRICES.items()},
    **{name: (row, (3, 5, 12, 16)) for name, row in CONVOLUTIONS.items()},
}
NARROW = ("uniform", "normal with mean", "trunc_normal asymmetric")
TABLE = [
    *((name, "float32") for name in ROWS),
    *((name, "bfloat16") for name in NARROW),
    *((name, "float16") for name in NARROW),
    *((name, "float8_e5m2") for name in NARROW),
    *((name, "complex64") for name in ("uniform", "normal with mean")),
]
DOUBLE = [(name, "float64") for name in ("uniform asymmetric", "normal with mean")]

Z = np.random.default_rng(0).standard_normal(4096).astype(np.float32)


def digest(array: Any) -> str:
    """Of an array's bytes, NumPy's, torch's or JAX's."""
    if isinstance(array, torch.Tensor):
        array = array.contiguous().view(torch.uint8).numpy()
    return hashlib.sha256(np.asarray(array).tobytes()).hexdigest()


def initializers(xp: Any, table: list[tuple[str, str]]) -> dict[str, str]:
    """A digest for each row of a table, drawn in a namespace."""
    found = {}
    for name, dtype in table:
        initializer, shape = ROWS[name]
        values = (
            by_xla(initializer, shape, dtype)
            if xp is jnp
            else initializer(KEY, shape, dtype, xp=xp)
        )
        found[f"{xp.__name__} {dtype} {name}"] = digest(values)
    return found


def by_xla(initializer: pi.Initializer, shape: tuple[int, ...], dtype: str) -> jax.Array:
    """What a compiled program draws; on the host NumPy would, were the key known."""
    key = jax.random.wrap_key_data(np.array(KEY.words, np.uint32), impl="threefry2x32")
    values: jax.Array = jax.jit(lambda key: initializer(key, shape, dtype))(key)
    return values


def naive() -> dict[str, str]:
    """What the frameworks themselves leave to the processor."""
    affine = jax.jit(lambda z: 0.5 + 0.3 * z)
    return {
        "jax": digest(affine(Z)),
        "torch": digest(torch.add(torch.tensor(0.5), torch.from_numpy(Z), alpha=0.3)),
        "numpy": digest(np.exp(Z)),
    }


def digests() -> dict[str, dict[str, str]]:
    """The digests of this process, under the names ``initializers`` and ``naive``."""
    found = initializers(np, TABLE + DOUBLE) | initializers(torch, TABLE + DOUBLE)
    found |= initializers(jnp, TABLE)
    with jax.enable_x64(True):
        found |= initializers(jnp, DOUBLE)
    return {"initializers": found, "naive": naive()}


if __name__ == "__main__":
    print(json.dumps(digests()))  # noqa: T201
