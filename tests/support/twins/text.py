"""Text: GPT with Conv1D and tied embeddings, BERT in a wrapper, Llama with rotary attention."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import linen, nnx
from tests.support.twins import TwinCase, tokens
from torch import nn
from torch.nn import functional


class Conv1D(nn.Module):
    """A linear layer that keeps its weight (in, out), as transformers' GPT-2 does."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * 0.02)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.bias


class GptBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.c_attn, self.c_proj = Conv1D(24, 8), Conv1D(8, 8)
        self.c_fc, self.c_out = Conv1D(8, 8), Conv1D(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            y.unflatten(-1, (2, 4)).transpose(1, 2)
            for y in self.c_attn(self.ln_1(x)).split(8, dim=-1)
        )
        y = (
            functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            .transpose(1, 2)
            .flatten(2)
        )
        x = x + self.c_proj(y)
        return x + self.c_out(functional.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Gpt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(8, 8), nn.Embedding(8, 8)
        self.h = nn.ModuleList(GptBlock() for _ in range(2))
        self.ln_f = nn.LayerNorm(8)
        self.lm_head = nn.Linear(8, 8, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.wte(ids) + self.wpe.weight[: ids.shape[1]]
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def causal(q: Any, k: Any, v: Any) -> Any:
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / q.shape[-1] ** 0.5
    length = scores.shape[-1]
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)


class LinenGpt(linen.Module):
    @linen.compact
    def __call__(self, ids: Any) -> Any:
        embed = linen.Embed(8, 8, name="wte")
        x = embed(ids) + linen.Embed(8, 8, name="wpe")(jnp.arange(ids.shape[1]))
        for i in range(2):
            x = LinenGptBlock(name=f"h_{i}")(x)
        return embed.attend(linen.LayerNorm(1e-5, name="ln_f")(x))


class LinenGptBlock(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        qkv = linen.Dense(24, name="c_attn")(linen.LayerNorm(1e-5, name="ln_1")(x))
        parts = (y.reshape(*x.shape[:2], 2, 4) for y in jnp.split(qkv, 3, -1))
        x = x + linen.Dense(8, name="c_proj")(causal(*parts).reshape(x.shape))
        y = jax.nn.gelu(linen.Dense(8, name="c_fc")(linen.LayerNorm(1e-5, name="ln_2")(x)))
        return x + linen.Dense(8, name="c_out")(y)


# BERT, in a class that keeps the module and its parameters, as transformers' Flax classes do


class BertLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.dense = (nn.Linear(8, 8) for _ in range(4))
        self.intermediate, self.output = nn.Linear(8, 8), nn.Linear(8, 8)
        self.attention_norm, self.output_norm = nn.LayerNorm(8), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part(x).unflatten(-1, (2, 4)).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.dense(y))
        return self.output_norm(x + self.output(functional.gelu(self.intermediate(x))))


class Outputs(NamedTuple):
    logits: Any


class Bert(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(8, 8), nn.Embedding(8, 8)
        self.norm = nn.LayerNorm(8)
        self.layer = nn.ModuleList(BertLayer() for _ in range(2))
        self.classifier = nn.Linear(8, 8)

    def forward(self, input_ids: torch.Tensor) -> Outputs:
        x = self.norm(self.word(input_ids) + self.position.weight[: input_ids.shape[1]])
        for layer in self.layer:
            x = layer(x)
        return Outputs(self.classifier(x[:, 0]))


class LinenBertLayer(linen.Module):
    @linen.compact
    def __call__(self, x: Any) -> Any:
        parts = (
            linen.Dense(8, name=name)(x).reshape(*x.shape[:2], 2, 4)
            for name in ("query", "key", "value")
        )
        q, k, v = parts
        weights = jax.nn.softmax(jnp.einsum("bqhd,bkhd->bhqk", q, k) / 2)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(x.shape)
        x = linen.LayerNorm(1e-5, name="attention_norm")(x + linen.Dense(8, name="dense")(y))
        y = jax.nn.gelu(linen.Dense(8, name="intermediate")(x), approximate=False)
        return linen.LayerNorm(1e-5, name="output_norm")(x + linen.Dense(8, name="output")(y))


class LinenBert(linen.Module):
    @linen.compact
    def __call__(self, input_ids: Any) -> Outputs:
        x = linen.Embed(8, 8, name="word")(input_ids)
        x = x + linen.Embed(8, 8, name="position")(jnp.arange(input_ids.shape[1]))
        x = linen.LayerNorm(1e-5, name="norm")(x)
        for i in range(2):
            x = LinenBertLayer(name=f"layer_{i}")(x)
        return Outputs(linen.Dense(8, name="classifier")(x[:, 0]))


class Pretrained:
    """What a library keeps of a linen module: called with ``params=``."""

    def __init__(self) -> None:
        self.module = LinenBert()
        self.params = self.module.init(jax.random.key(0), IDS)["params"]

    def __call__(self, input_ids: Any, params: Any = None) -> Outputs:
        held = self.params if params is None else params
        outputs: Outputs = self.module.apply({"params": held}, input_ids)
        return outputs


# Llama


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


ANGLES = np.arange(6)[:, None] / 10.0 ** np.arange(2)
COS, SIN = (
    np.concatenate([f(ANGLES)] * 2, -1).astype(np.float32)[:, None] for f in (np.cos, np.sin)
)


def rotary(x: Any, cos: Any, sin: Any, concatenate: Any) -> Any:
    """The two halves of (batch, length, heads, 4), turned."""
    return x * cos + concatenate([-x[..., 2:], x[..., :2]], -1) * sin


class LlamaLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        for name in names:
            self.add_module(name, nn.Linear(8, 8, bias=False))
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(), RMSNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.input_layernorm(x)
        q, k, v = (
            part(y).unflatten(-1, (2, 4)) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        cos, sin = torch.from_numpy(COS), torch.from_numpy(SIN)
        q, k, v = (
            z.transpose(1, 2)
            for z in (rotary(q, cos, sin, torch.cat), rotary(k, cos, sin, torch.cat), v)
        )
        y = (
            functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            .transpose(1, 2)
            .flatten(2)
        )
        x = x + self.o_proj(y)
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(functional.silu(self.gate_proj(y)) * self.up_proj(y))


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(8, 8)
        self.layers = nn.ModuleList(LlamaLayer() for _ in range(2))
        self.norm = RMSNorm()
        self.lm_head = nn.Linear(8, 8, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


class NnxLlamaLayer(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        for name in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"):
            setattr(self, name, nnx.Linear(8, 8, use_bias=False, rngs=rngs))
        self.input_layernorm, self.post_attention_layernorm = (
            nnx.RMSNorm(8, rngs=rngs) for _ in range(2)
        )

    def __call__(self, x: Any) -> Any:
        y = self.input_layernorm(x)
        q, k, v = (
            part(y).reshape(*x.shape[:2], 2, 4) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (rotary(z, COS, SIN, jnp.concatenate) for z in (q, k))
        x = x + self.o_proj(causal(q, k, v).reshape(x.shape))
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(jax.nn.silu(self.gate_proj(y)) * self.up_proj(y))


class NnxLlama(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed_tokens = nnx.Embed(8, 8, rngs=rngs)
        self.layers = nnx.List([NnxLlamaLayer(rngs) for _ in range(2)])
        self.norm = nnx.RMSNorm(8, rngs=rngs)
        self.lm_head = nnx.Linear(8, 8, use_bias=False, rngs=rngs)

    def __call__(self, ids: Any) -> Any:
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x)
        return self.lm_head(self.norm(x))


class Gated(nn.Module):
    """Two gated layers, whose gate and up have one shape."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("gate", "up", "down", "head"):
            self.add_module(name, nn.Linear(8, 8, bias=False))
        self.embed = nn.Embedding(8, 8)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        return self.head(x + self.down(functional.silu(self.gate(x)) * self.up(x)))


class LinenGated(linen.Module):
    """The twin with the names of Llama's own code, w1, w3 and w2, that say nothing."""

    @linen.compact
    def __call__(self, ids: Any) -> Any:
        x = linen.Embed(8, 8, name="embed")(ids)
        w1, w3, w2 = (linen.Dense(8, use_bias=False, name=name) for name in ("w1", "w3", "w2"))
        return linen.Dense(8, use_bias=False, name="head")(x + w2(jax.nn.silu(w1(x)) * w3(x)))


IDS = tokens(3, 6, below=8)

TWINS = {
    "gpt with conv1d and tied embeddings": TwinCase(Gpt, LinenGpt, IDS),
    "bert in a wrapper": TwinCase(Bert, Pretrained, {"input_ids": IDS}, invisible=("key.bias",)),
    "llama with rotary attention": TwinCase(Llama, lambda: NnxLlama(nnx.Rngs(0)), IDS),
    "gated with names that say nothing": TwinCase(Gated, LinenGated, IDS),
}
