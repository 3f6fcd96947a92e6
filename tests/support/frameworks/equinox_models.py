"""Equinox: pytrees of modules, whose layers take no initializers, so that arrays are JAX's."""

from typing import Any

from tests.support.frameworks.jax_trees import Jax


class Equinox(Jax):
    name = "equinox"
    needs = ("equinox",)

    def model(self, dtype: str) -> Any:
        import equinox as eqx
        import jax

        class Net(eqx.Module):
            emb: eqx.nn.Embedding
            conv: eqx.nn.Conv2d
            norm: eqx.nn.LayerNorm
            fc: eqx.nn.Linear

            def __init__(self, key: Any) -> None:
                self.emb = eqx.nn.Embedding(11, 6, dtype=dtype, key=key)
                self.conv = eqx.nn.Conv2d(6, 4, (3, 2), dtype=dtype, key=key)
                self.norm = eqx.nn.LayerNorm(4, dtype=dtype)
                self.fc = eqx.nn.Linear(4, 8, dtype=dtype, key=key)

        return eqx.filter_eval_shape(Net, jax.random.key(0))

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_equinox

        return portinit_equinox.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        return {
            "emb.weight": self.to_numpy(model.emb.weight),
            "conv.weight": self.to_numpy(model.conv.weight),
            "conv.bias": self.to_numpy(model.conv.bias)[:, 0, 0],
            "norm.weight": self.to_numpy(model.norm.weight),
            "norm.bias": self.to_numpy(model.norm.bias),
            "fc.weight": self.to_numpy(model.fc.weight),
            "fc.bias": self.to_numpy(model.fc.bias),
        }
