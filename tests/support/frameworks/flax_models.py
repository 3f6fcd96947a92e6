"""Flax: linen's variables and nnx modules, whose layers call initializers themselves."""

from typing import Any

from tests.support.frameworks.jax_trees import Jax


class Linen(Jax):
    name = "flax linen"

    def model(self, dtype: str) -> Any:
        import jax
        import jax.numpy as jnp
        from flax import linen

        class Net(linen.Module):
            @linen.compact
            def __call__(self, tokens: Any) -> Any:
                x = linen.Embed(11, 6, param_dtype=dtype, name="emb")(tokens)
                x = linen.Conv(4, (3, 2), param_dtype=dtype, name="conv")(x)
                x = linen.LayerNorm(param_dtype=dtype, name="norm")(x)
                return linen.Dense(8, param_dtype=dtype, name="fc")(x)

        return jax.eval_shape(Net().init, jax.random.key(0), jnp.zeros((1, 5, 5), "int32"))

    def state(self, model: Any) -> Any:
        return super().state(model["params"])


class Nnx(Jax):
    name = "flax nnx"
    in_place = True

    def model(self, dtype: str) -> Any:
        from flax import nnx

        class Net(nnx.Module):
            def __init__(self, rngs: nnx.Rngs) -> None:
                self.emb = nnx.Embed(11, 6, param_dtype=dtype, rngs=rngs)
                self.conv = nnx.Conv(6, 4, (3, 2), param_dtype=dtype, rngs=rngs)
                self.norm = nnx.LayerNorm(4, param_dtype=dtype, rngs=rngs)
                self.fc = nnx.Linear(4, 8, param_dtype=dtype, rngs=rngs)

        return Net(nnx.Rngs(0))

    def state(self, model: Any) -> Any:
        from flax import nnx

        return super().state(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
