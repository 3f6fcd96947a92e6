"""JAX without a library of layers: arrays, and a tree of dicts with names."""

from typing import Any

from tests.support.frameworks.framework import Framework


class Jax(Framework):
    name = "jax"
    needs = ("jax", "flax")

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import jax.numpy as jnp

        return initializer(key, shape, dtype, xp=jnp, layout=layout)

    def model(self, dtype: str) -> Any:
        from jax import ShapeDtypeStruct as Struct

        return {
            "emb": {"embedding": Struct((11, 6), dtype)},
            "conv": {"kernel": Struct((3, 2, 6, 4), dtype), "bias": Struct((4,), dtype)},
            "norm": {"scale": Struct((4,), dtype), "bias": Struct((4,), dtype)},
            "fc": {"kernel": Struct((4, 8), dtype), "bias": Struct((8,), dtype)},
        }

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_flax

        return portinit_flax.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        return {
            "emb.weight": self.to_numpy(model["emb"]["embedding"]),
            "conv.weight": self.to_numpy(model["conv"]["kernel"]).transpose(3, 2, 0, 1),
            "conv.bias": self.to_numpy(model["conv"]["bias"]),
            "norm.weight": self.to_numpy(model["norm"]["scale"]),
            "norm.bias": self.to_numpy(model["norm"]["bias"]),
            "fc.weight": self.to_numpy(model["fc"]["kernel"]).T,
            "fc.bias": self.to_numpy(model["fc"]["bias"]),
        }
