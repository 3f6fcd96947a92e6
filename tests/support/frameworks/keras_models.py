"""Keras 3: one row for each backend, in a process of its own."""

from typing import Any

from tests.support.frameworks.framework import Framework


class Keras(Framework):
    in_place = True

    def __init__(self, backend: str, *needs: str) -> None:
        self.name = f"keras on {backend}"  # type: ignore[misc]
        self.needs = ("keras", *needs)  # type: ignore[misc]
        self.environment = {"KERAS_BACKEND": backend}  # type: ignore[misc]

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import keras

        import portinit_keras

        init = portinit_keras.Initializer(initializer, seed=key, layout=layout)
        return keras.Variable(init, shape=shape, dtype=dtype)

    def to_numpy(self, array: Any) -> Any:
        import keras

        if keras.backend.backend() == "torch":
            from tests.support import bits

            return bits.to_numpy(array.value)
        return keras.ops.convert_to_numpy(array)

    def model(self, dtype: str) -> Any:
        from keras import Input, Sequential, layers

        own = {"dtype": dtype}
        return Sequential(
            [
                Input((5, 5), dtype="int32"),
                layers.Embedding(11, 6, name="emb", **own),
                layers.Conv2D(4, (3, 2), name="conv", **own),
                layers.LayerNormalization(name="norm", **own),
                layers.Dense(8, name="fc", **own),
            ]
        )

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_keras

        return portinit_keras.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        found = {v.path.split("/", 1)[1]: self.to_numpy(v) for v in model.weights}
        return {
            "emb.weight": found["emb/embeddings"],
            "conv.weight": found["conv/kernel"].transpose(3, 2, 0, 1),
            "conv.bias": found["conv/bias"],
            "norm.weight": found["norm/gamma"],
            "norm.bias": found["norm/beta"],
            "fc.weight": found["fc/kernel"].T,
            "fc.bias": found["fc/bias"],
        }


KERAS = [
    Keras("jax", "jax"),
    Keras("torch", "torch"),
    Keras("tensorflow", "tensorflow"),
    Keras("numpy"),
]
