"""Haiku: modules that call initializers with a shape and a dtype, and dicts of parameters."""

from typing import Any

from tests.support.frameworks.jax_trees import Jax


class Haiku(Jax):
    name = "haiku"
    needs = ("haiku",)

    def model(self, dtype: str) -> Any:
        import haiku as hk
        import jax

        def net(tokens: Any) -> Any:
            x = hk.Embed(11, 6, name="emb")(tokens).astype(dtype)
            x = hk.Conv2D(4, (3, 2), name="conv")(x)
            x = hk.LayerNorm(-1, True, True, name="norm")(x)
            return hk.Linear(8, name="fc")(x)

        def made(key: Any) -> Any:
            params = hk.transform(net).init(key, jax.numpy.zeros((1, 5, 5), "int32"))
            return jax.tree.map(lambda x: x.astype(dtype), params)

        return jax.eval_shape(made, jax.random.key(0))

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_haiku

        return portinit_haiku.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        return {
            "emb.weight": self.to_numpy(model["emb"]["embeddings"]),
            "conv.weight": self.to_numpy(model["conv"]["w"]).transpose(3, 2, 0, 1),
            "conv.bias": self.to_numpy(model["conv"]["b"]),
            "norm.weight": self.to_numpy(model["norm"]["scale"]),
            "norm.bias": self.to_numpy(model["norm"]["offset"]),
            "fc.weight": self.to_numpy(model["fc"]["w"]).T,
            "fc.bias": self.to_numpy(model["fc"]["b"]),
        }
