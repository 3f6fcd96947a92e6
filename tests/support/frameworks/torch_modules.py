"""PyTorch: tensors filled by ``fill_``, and modules."""

from typing import Any

from tests.support import bits
from tests.support.frameworks.framework import Framework


class Torch(Framework):
    name = "torch"
    needs = ("torch",)
    in_place = True
    matches = False  # a recipe may say more than a module has

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import torch

        import portinit_torch

        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        return portinit_torch.fill_(tensor, initializer, key=key, layout=layout)

    def to_numpy(self, array: Any) -> Any:
        return bits.to_numpy(array)

    def model(self, dtype: str) -> Any:
        import torch
        from torch import nn

        model = nn.Module()
        model.emb = nn.Embedding(11, 6)
        model.conv = nn.Conv2d(6, 4, (3, 2))
        model.norm = nn.LayerNorm(4)
        model.fc = nn.Linear(4, 8)
        return model.to(getattr(torch, dtype))

    def initialize(self, model: Any, recipe: Any, key: Any) -> Any:
        import portinit_torch

        return portinit_torch.initialize(model, recipe, key)

    def state(self, model: Any) -> Any:
        return {name: bits.to_numpy(tensor) for name, tensor in model.state_dict().items()}
