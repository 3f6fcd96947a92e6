"""MLX: arrays that NumPy fills, and modules that are filled in place."""

from typing import Any

import numpy as np
from tests.support.frameworks.framework import Framework


class Mlx(Framework):
    name = "mlx"
    needs = ("mlx",)
    in_place = True

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import mlx.core as mx

        return initializer(key, shape, dtype, xp=mx, layout=layout)

    def to_numpy(self, array: Any) -> Any:
        import ml_dtypes
        import mlx.core as mx

        if array.dtype != mx.bfloat16:
            return np.asarray(array)
        return np.asarray(array.view(mx.uint16)).view(ml_dtypes.bfloat16)

    def model(self, dtype: str) -> Any:
        import mlx.core as mx
        import mlx.nn as nn

        class Net(nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.emb = nn.Embedding(11, 6)
                self.conv = nn.Conv2d(6, 4, (3, 2))
                self.norm = nn.LayerNorm(4)
                self.fc = nn.Linear(4, 8)
                self.set_dtype(getattr(mx, dtype))

        return Net()

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_mlx

        return portinit_mlx.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        return {
            "emb.weight": self.to_numpy(model.emb.weight),
            "conv.weight": self.to_numpy(model.conv.weight).transpose(0, 3, 1, 2),
            "conv.bias": self.to_numpy(model.conv.bias),
            "norm.weight": self.to_numpy(model.norm.weight),
            "norm.bias": self.to_numpy(model.norm.bias),
            "fc.weight": self.to_numpy(model.fc.weight),
            "fc.bias": self.to_numpy(model.fc.bias),
        }
