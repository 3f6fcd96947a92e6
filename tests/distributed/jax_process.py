"""One of several JAX processes that share a mesh: each makes its shards, and prints their hash."""

import json
import sys
from typing import Any

import jax
import numpy as np
from flax import linen as nn

import portinit
import portinit_flax
from tests.distributed import jax_models as models
from tests.distributed.jax_machine import collectives


def main(address: str, count: int, rank: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, count, rank)
    found = {f"{s} {k}": shards(s, k) for s in (False, True) for k in ("Auto", "Explicit")}
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    jax.distributed.shutdown()


def shards(scanned: bool, kind: str) -> dict[str, Any]:
    """This process's part of each array, by what it covers."""
    tree, mesh = nn.unbox(models.abstract(scanned)), models.mesh_of((2, 2), kind)
    shardings = jax.tree.map(lambda leaf: models.evenly(mesh, leaf.shape), tree)
    stacked = {"layers": 0} if scanned else None
    given = portinit.assign(np.arange(33.0))
    recipe = portinit.Recipe([("norm.weight", given)]) + models.RECIPE
    with jax.set_mesh(mesh):
        made = portinit_flax.precompile(tree, recipe, shardings=shardings, stacked=stacked)
        filled = portinit_flax.initialize(
            tree, recipe, models.KEY, shardings=shardings, stacked=stacked
        )
    assert not any(collectives(program.compiled) for program in made.programs)
    return {
        f"{jax.tree_util.keystr(path)} {bounds(shard.index)}": models.hash_of(shard.data)
        for path, array in jax.tree_util.tree_flatten_with_path(filled)[0]
        for shard in array.addressable_shards
    }


def bounds(index: tuple[slice, ...]) -> str:
    """A shard's place, as JSON."""
    return json.dumps([[part.start, part.stop] for part in index])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
