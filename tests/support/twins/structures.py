"""Experts, scanned layers, and trees that name arrays as Haiku and Equinox do."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx
from tests.support.twins import TwinCase, floats
from torch import nn
from torch.nn import functional


class Expert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x)))


class Mixture(nn.Module):
    """Each token goes to the two experts that its gate likes best."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 3)
        self.experts = nn.ModuleList(Expert() for _ in range(3))
        self.shared = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shares = torch.softmax(self.gate(x), -1)
        kept = shares >= shares.topk(2).values[..., -1:]
        outputs = torch.stack([expert(x) for expert in self.experts], -1)
        return self.shared(x) + (outputs * (shares * kept)[..., None, :]).sum(-1)


class LinenExpert(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        return linen.Dense(6, name="down")(linen.relu(linen.Dense(6, name="up")(x)))


class LinenMixture(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        shares = jax.nn.softmax(linen.Dense(3, name="gate")(x))
        kept = shares >= jax.lax.top_k(shares, 2)[0][..., -1:]
        experts = linen.vmap(
            LinenExpert, variable_axes={"params": 0}, split_rngs={"params": True},
            in_axes=None, out_axes=-1, axis_size=3,
        )(name="experts")  # fmt: skip
        return linen.Dense(6, name="shared")(x) + (experts(x) * (shares * kept)[..., None, :]).sum(
            -1
        )


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(6), nn.Linear(6, 6), nn.Linear(6, 6)
        nn.init.zeros_(self.fc2.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.fc2(torch.tanh(self.fc1(self.norm(x))))


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Residual() for _ in range(3))
        self.head = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class LinenResidual(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any) -> Any:
        y = linen.Dense(6, name="fc1")(linen.LayerNorm(1e-5, name="norm")(x))
        return x + linen.Dense(6, name="fc2")(jnp.tanh(y)), None


class LinenScanned(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        scanned = linen.scan(
            LinenResidual, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = scanned(name="layers")(x, None)
        return linen.Dense(6, name="head")(x)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = (nn.Linear(6, 6) for _ in range(3))
        self.norm = nn.LayerNorm(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc3(
            functional.gelu(self.fc2(self.norm(torch.tanh(self.fc1(x)))), approximate="tanh")
        )


class HaikuLinear(linen.Module):
    """``w``, (in, out), and ``b``, as Haiku names them."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        w = self.param("w", linen.initializers.ones, (x.shape[-1], 6))
        return x @ w + self.param("b", linen.initializers.zeros, (6,))


class HaikuNorm(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        scale = self.param("scale", linen.initializers.ones, (6,))
        offset = self.param("offset", linen.initializers.zeros, (6,))
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + offset


class HaikuMlp(linen.Module):
    """``linear``, ``linear_1``, ``linear_2``: Haiku's numbers."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = HaikuNorm(name="layer_norm")(jnp.tanh(HaikuLinear(name="linear")(x)))
        return HaikuLinear(name="linear_2")(jax.nn.gelu(HaikuLinear(name="linear_1")(x)))


class EquinoxLinear(nnx.Module):
    """``weight``, (out, in), as Equinox and PyTorch keep it."""

    def __init__(self) -> None:
        self.weight, self.bias = nnx.Param(jnp.ones((6, 6))), nnx.Param(jnp.zeros(6))

    def __call__(self, x: Any) -> Any:
        return x @ self.weight[...].T + self.bias[...]


class EquinoxNorm(nnx.Module):
    def __init__(self) -> None:
        self.weight, self.bias = nnx.Param(jnp.ones(6)), nnx.Param(jnp.zeros(6))

    def __call__(self, x: Any) -> Any:
        mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        y = (x - mean) * jax.lax.rsqrt(var + 1e-5)
        return y * self.weight[...] + self.bias[...]


class EquinoxMlp(nnx.Module):
    def __init__(self) -> None:
        self.fc1, self.fc2, self.fc3 = (EquinoxLinear() for _ in range(3))
        self.norm = EquinoxNorm()

    def __call__(self, x: Any) -> Any:
        y = jax.nn.gelu(self.fc2(self.norm(jnp.tanh(self.fc1(x)))))
        return self.fc3(y)


class OutIn(linen.Module):
    """A kernel that is kept (out, in), as transformers' FlaxConv1D does, and named as Flax's."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        kernel = self.param("kernel", linen.initializers.ones, (6, x.shape[-1]))
        return x @ kernel.T + self.param("bias", linen.initializers.zeros, (6,))


class OutInMlp(linen.Module):
    """Two layers with kernels of one kind, and one of the other, all square."""

    @linen.compact
    def __call__(self, x: Any) -> Any:
        x = linen.LayerNorm(1e-5, name="norm")(jnp.tanh(OutIn(name="fc1")(x)))
        return OutIn(name="fc3")(jax.nn.gelu(linen.Dense(6, name="fc2")(x)))


X = floats(24, 6)

TWINS = {
    "mixture of experts": TwinCase(Mixture, LinenMixture, X),
    "scanned layers": TwinCase(Deep, LinenScanned, X),
    "named as in haiku": TwinCase(Mlp, HaikuMlp, X),
    "named as in equinox": TwinCase(Mlp, EquinoxMlp, X),
    "kernels out by in": TwinCase(Mlp, OutInMlp, X),
}
