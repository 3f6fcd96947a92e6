"""Keras 3: one row for each backend, in a process of its own."""

from typing import Any

from tests.support.frameworks.framework import Framework


class Keras(Framework):
    models = False

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


KERAS = [
    Keras("jax", "jax"),
    Keras("torch", "torch"),
    Keras("tensorflow", "tensorflow"),
    Keras("numpy"),
]
