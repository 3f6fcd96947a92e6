"""The same Llama on several meshes: ``python -m examples.mesh`` prints one digest.

It has eight CPU devices, of which each mesh takes what it needs. The last mesh holds the layers
stacked, as ``nn.scan`` does.
"""

import hashlib
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType

import portinit
import portinit_flax
from examples.llama_flax import Llama

RECIPE = portinit.Recipe([("*norm.weight", portinit.ones), ("*", portinit.normal(std=0.02))])


def parameters(mesh: jax.sharding.Mesh, scanned: bool = False) -> dict:
    """The model's parameters, each divided as ``with_partitioning`` says in the model."""
    model = Llama(vocab_size=104, dim=40, heads=(8, 8, 6), hidden_dim=56, scanned=scanned)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    stacked = {"layers": 0} if scanned else None
    with jax.set_mesh(mesh):
        filled = portinit_flax.initialize(shapes, RECIPE, portinit.key(0), stacked=stacked)
    return nn.unbox(filled["params"])


def digest(params: dict) -> str:
    """The SHA-256 of all layers' names and bytes, whether they are stacked or not."""
    total = hashlib.sha256()
    for name, array in sorted(_apart(params)):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def _apart(params: dict) -> Iterator[tuple[str, np.ndarray]]:
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        first, *rest = (key.key for key in path)
        layers = enumerate(np.asarray(leaf)) if first == "layers" else []
        yield from (("/".join((f"layers_{i}", *rest)), layer) for i, layer in layers)
        if first != "layers":
            yield "/".join((first, *rest)), np.asarray(leaf)


def main() -> None:
    """Print a line for each mesh."""
    jax.config.update("jax_num_cpu_devices", 8)
    meshes = [(1,), (2,), (8,), (2, 4), (8,)]
    for shape, scanned in zip(meshes, [False, False, False, False, True], strict=True):
        names, count = ("data", "model")[-len(shape) :], int(np.prod(shape))
        types, devices = (AxisType.Auto,) * len(shape), jax.devices()[:count]
        mesh = jax.make_mesh(shape, names, axis_types=types, devices=devices)
        params = parameters(mesh, scanned)
        held = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
        line = f"{shape!s:8} {'stacked' if scanned else 'apart':8} {held:7} bytes a device"
        sys.stdout.write(f"{line}  {digest(params)[:16]}\n")


if __name__ == "__main__":
    main()
