"""The ready recipes of model families, against traces of the models that they speak of."""

import dataclasses
import json
import lzma
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tools import record_families

import portinit
import portinit_torch
from portinit import Recipe, recipes

transformers = pytest.importorskip("transformers")

SIZES: dict[str, int] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IMAGES = SIZES | {"image_size": 32, "patch_size": 8}
TEXT = SIZES | {"vocab_size": 99}
SPEECH: dict[str, Any] = SIZES | {
    "conv_dim": (16, 16, 24),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 3),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "num_codevectors_per_group": 8,
    "codevector_dim": 16,
    "proj_codevector_dim": 16,
}


def hugging_face(model: str, **sizes: Any) -> Callable[[], Any]:
    def build() -> Any:
        kind = getattr(transformers, model)
        return kind(kind.config_class(**sizes))

    return build


FAMILIES = {
    "llama": (recipes.llama(), hugging_face("LlamaForCausalLM", **TEXT, pad_token_id=3)),
    "gpt2": (
        recipes.gpt2(layers=3),
        hugging_face(
            "GPT2LMHeadModel",
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=20,
            vocab_size=99,
            bos_token_id=1,
            eos_token_id=2,
        ),
    ),
    "bert": (recipes.bert(), hugging_face("BertForMaskedLM", **TEXT)),
    "t5": (
        recipes.t5(d_model=32, d_kv=8),
        hugging_face(
            "T5ForConditionalGeneration",
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            vocab_size=99,
        ),
    ),
    "vit": (recipes.vit_hf(), hugging_face("ViTForImageClassification", **IMAGES)),
    "deit": (recipes.deit(), hugging_face("DeiTForImageClassification", **IMAGES)),
    "swin": (
        recipes.swin(),
        hugging_face(
            "SwinForImageClassification",
            image_size=32,
            patch_size=2,
            embed_dim=12,
            window_size=4,
            depths=[2, 2],
            num_heads=[2, 4],
        ),
    ),
    "convnext": (
        recipes.convnext(),
        hugging_face(
            "ConvNextForImageClassification", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1]
        ),
    ),
    "clip": (
        recipes.clip(32, 2, 48, 3),
        hugging_face(
            "CLIPModel",
            text_config=TEXT,
            vision_config=IMAGES | {"hidden_size": 48, "num_hidden_layers": 3},
            projection_dim=16,
        ),
    ),
    "whisper": (
        recipes.whisper(),
        hugging_face(
            "WhisperForConditionalGeneration",
            vocab_size=99,
            d_model=32,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            num_mel_bins=20,
            encoder_ffn_dim=48,
            decoder_ffn_dim=48,
            max_source_positions=30,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
        ),
    ),
    "wav2vec 2.0": (recipes.wav2vec2(), hugging_face("Wav2Vec2ForPreTraining", **SPEECH)),
    "wav2vec 2.0 with layer norm": (
        recipes.wav2vec2(),
        hugging_face(
            "Wav2Vec2ForCTC",
            **SPEECH,
            vocab_size=20,
            feat_extract_norm="layer",
            conv_bias=True,
            do_stable_layer_norm=True,
        ),
    ),
    "unispeech": (recipes.wav2vec2(), hugging_face("UniSpeechModel", **SPEECH)),
    "sew": (recipes.wav2vec2(), hugging_face("SEWModel", **SPEECH)),
    "mamba": (
        recipes.mamba(),
        hugging_face(
            "MambaForCausalLM", vocab_size=99, hidden_size=32, state_size=4, num_hidden_layers=2
        ),
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_what_its_reference_draws(family: str) -> None:
    """Each parameter's distribution is that of the trace, or its values are, where it is data."""
    recipe, build = FAMILIES[family]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, and of values whose last bits differ
        traced = portinit_torch.trace(build)
        model = build()
    bound = {rule.name: rule for rule in portinit_torch.bind(model, recipe).rules}
    compared = 0
    for rule in traced.rules:
        if rule.buffer or rule.shape is None:
            continue
        ours, theirs = bound[rule.name].initializer, rule.initializer
        laws = [i.distribution_of(rule.shape, layout="torch") for i in (ours, theirs)]
        if None not in laws:
            assert laws[0].mean == pytest.approx(laws[1].mean, abs=1e-7), rule.name
            assert laws[0].std == pytest.approx(laws[1].std, rel=1e-6), rule.name
            assert type(laws[0]) is type(laws[1]), rule.name
        elif family == "mamba" and rule.name.endswith("dt_proj.bias"):
            steps = [np.log1p(np.exp(draws(i, rule.shape))) for i in (ours, theirs)]
            for step in steps:  # log-uniform between these, in the recipe and in the trace
                assert 0.001 * (1 - 1e-5) <= step.min() <= step.max() <= 0.1 * (1 + 1e-5)
        else:
            near = draws(ours, rule.shape), draws(theirs, rule.shape)
            np.testing.assert_allclose(*near, rtol=3e-7, atol=2e-6, err_msg=rule.name)
            assert bound[rule.name].drawn_as == rule.drawn_as
        compared += 1
    assert compared == len(list(model.named_parameters()))


def draws(initializer: portinit.Initializer, shape: tuple[int, ...]) -> Any:
    return initializer(portinit.key(0), shape, "float32", layout="torch")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_wav2vec2_with_the_older_weight_norm() -> None:
    conv = torch.nn.Conv1d(8, 8, 4, groups=2)
    model = torch.nn.ModuleDict({"conv": torch.nn.utils.weight_norm(conv, dim=2)})
    model = torch.nn.ModuleDict({"pos_conv_embed": model})
    portinit_torch.initialize(model, recipes.wav2vec2(), portinit.key(0))
    expected = torch.norm_except_dim(conv.weight_v.detach(), 2, 2)
    torch.testing.assert_close(conv.weight_g.detach(), expected)
    assert 0.9 < conv.weight_v.abs().max() * 16**0.5 <= 1
    assert not conv.bias.any()


# References in libraries that are not needed otherwise, and in their authors' code: as recorded.


SINE = Recipe(
    [
        ("net.0.linear.weight", portinit.siren(first=True)),
        ("net.[123].linear.weight", portinit.siren()),
        ("net.4.weight", portinit.siren()),
    ]
)
"""The weights of a sine network of five layers."""
FIRST_BIAS = Recipe([("net.0.linear.bias", portinit.uniform(-5, 5))])
RECORDED: dict[str, Any] = json.loads(lzma.decompress(record_families.RECORD.read_bytes()))
RECIPES = {
    "torchvision resnet18": recipes.resnet(),
    "torchvision resnet18, zero": recipes.resnet(zero_init_residual=True),
    "torchvision resnet50, zero": recipes.resnet(zero_init_residual=True),
    "torchvision efficientnet_b0": recipes.efficientnet(),
    "torchvision efficientnet_v2_s": recipes.efficientnet(),
    "timm efficientnet_b0": recipes.efficientnet(),
    "timm efficientnetv2_rw_t": recipes.efficientnet(),
    "timm vit_tiny": recipes.vit(),
    "Fixup resnet18": recipes.fixup(blocks=8) + recipes.torch_defaults(),
    "Fixup resnet50": recipes.fixup(blocks=16, depth=3) + recipes.torch_defaults(),
    "SIREN": SINE + recipes.torch_defaults(),
    "FINER": FIRST_BIAS + SINE + recipes.torch_defaults(),
    "LoRA": recipes.lora() + recipes.torch_defaults(),
    "DiT": recipes.dit(),
    "Stable Diffusion UNetModel": recipes.diffusion_unet(),
    "diffusers UNet2DConditionModel": recipes.diffusion_unet(zero_init=False),
}


DIFFERENCES = {"timm vit_tiny": {"cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias"}}
"""Parameters that a recipe starts in another way, which docs/recipes.md explains."""


def parameters_of(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = RECORDED["models"][name]["parameters"]
    return rows


def described(row: dict[str, Any]) -> portinit.Parameter:
    """A recorded parameter, as recipes are told of it."""
    fields = {field.name for field in dataclasses.fields(portinit.Parameter)}
    told = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k in fields}
    return portinit.Parameter(**told)


def drawn(recipe: Recipe, row: dict[str, Any]) -> portinit.Initializer:
    rule = recipe.find(described(row))
    assert rule is not None, row["name"]
    return rule.initializer


def is_as_recorded(initializer: portinit.Initializer, row: dict[str, Any]) -> bool:
    if "values" in row:
        values = draws(initializer, tuple(row["shape"])).ravel()
        return np.allclose(values, row["values"], rtol=0, atol=1e-7)
    law = initializer.distribution_of(row["shape"], layout="torch")
    assert law is not None, row["name"]
    same = law.std == pytest.approx(row["std"], rel=1e-6, abs=0)
    return type(law).__name__ == row["law"] and law.mean == row["mean"] and same


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("name", ["DiT", *(name for name in RECIPES if "UNet" in name)])
def test_a_diffusion_model_may_be_a_part_of_another(name: str, prefix: str) -> None:
    rows = [row | {"name": prefix + row["name"]} for row in parameters_of(name)]
    assert all(is_as_recorded(drawn(RECIPES[name], row), row) for row in rows)


@pytest.mark.parametrize("name", RECIPES)
def test_a_family_is_what_was_recorded_of_its_reference(name: str) -> None:
    rows = parameters_of(name)
    wrong = {row["name"] for row in rows if not is_as_recorded(drawn(RECIPES[name], row), row)}
    assert wrong == DIFFERENCES.get(name, set())


def test_every_recorded_family_has_its_recipe() -> None:
    others = {"diffusers DiTTransformer2DModel", *DEEPNORM}  # which draw PyTorch's defaults: below
    assert RECORDED["models"].keys() == RECIPES.keys() | others


@pytest.mark.parametrize("name", record_families.PUBLISHED)
def test_a_library_draws_what_was_recorded(name: str) -> None:
    library, build = record_families.PUBLISHED[name]
    pytest.importorskip(library)
    for now, then in zip(record_families.recorded(build), parameters_of(name), strict=True):
        near = {k: pytest.approx(v) for k, v in then.items() if k in ("mean", "std", "values")}
        assert json.loads(json.dumps(now)) == then | near


DIFFUSERS = {
    "pos_embed.proj": "x_embedder.proj",
    "transformer_blocks.0.norm1.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "transformer_blocks.0.norm1.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "transformer_blocks.0.norm1.emb.class_embedder.embedding_table": "y_embedder.embedding_table",
    "transformer_blocks.0.norm1.linear": "blocks.0.adaLN_modulation.1",
    "transformer_blocks.0.attn1.to_q": "blocks.0.attn.qkv",
    "transformer_blocks.0.attn1.to_k": "blocks.0.attn.qkv",
    "transformer_blocks.0.attn1.to_v": "blocks.0.attn.qkv",
    "transformer_blocks.0.attn1.to_out.0": "blocks.0.attn.proj",
    "transformer_blocks.0.ff.net.0.proj": "blocks.0.mlp.fc1",
    "transformer_blocks.0.ff.net.2": "blocks.0.mlp.fc2",
    "proj_out_1": "final_layer.adaLN_modulation.1",
    "proj_out_2": "final_layer.linear",
}
"""Layers of diffusers' DiT, and what its authors call them."""


def test_diffusers_dit_starts_as_its_authors_does() -> None:
    """The recipe gives diffusers' names what the authors' code draws; diffusers draws defaults."""
    authors = {row["name"]: row for row in parameters_of("DiT")}
    compared = 0
    for row in parameters_of("diffusers DiTTransformer2DModel"):
        assert is_as_recorded(drawn(recipes.torch_defaults(), row), row)
        layer, _, leaf = row["name"].rpartition(".")
        if layer in DIFFUSERS:
            assert is_as_recorded(
                drawn(recipes.dit(), row), authors[f"{DIFFUSERS[layer]}.{leaf}"] | _shape(row)
            ), row["name"]
            compared += 1
    assert compared == 2 * len(DIFFUSERS) - 1  # a table has no bias


def _shape(row: dict[str, Any]) -> dict[str, Any]:
    return {"shape": row["shape"]}


DEEPNORM = {
    "torchscale encoder of (6, 0)": recipes.deepnorm(encoder_layers=6),
    "torchscale decoder of (0, 6)": recipes.deepnorm(decoder_layers=6),
    "torchscale encoder of (6, 3)": recipes.deepnorm(encoder_layers=6, decoder_layers=3),
    "torchscale decoder of (6, 3)": recipes.deepnorm(encoder_layers=6, decoder_layers=3),
}


@pytest.mark.parametrize("name", DEEPNORM)
def test_deepnorms_gains_are_torchscales(name: str) -> None:
    """Which has PyTorch's defaults where the paper has Xavier's, so the factors are compared.

    For an encoder before a decoder it divides by 1 / 1.15 where the paper multiplies by 0.87.
    """
    side = name.split()[1]
    inverted = 0.87 / 1.15 if name == "torchscale encoder of (6, 3)" else 1
    gains = set()
    for row in parameters_of(name):
        if row.get("kind") == "linear" and row["name"].endswith("weight"):
            gain = row["std"] / drawn_std(recipes.torch_defaults(), row)
            ours = drawn_std(DEEPNORM[name], row | {"name": f"{side}.{row['name']}"})
            xavier = drawn_std(Recipe([("*", portinit.xavier_normal())]), row)
            wanted = gain if gain == pytest.approx(1) else gain * inverted
            assert ours / xavier == pytest.approx(wanted, rel=1e-3), row["name"]
            gains.add(round(gain, 3))
    assert len(gains) == 2  # 1 and beta


def drawn_std(recipe: Recipe, row: dict[str, Any]) -> float:
    law = drawn(recipe, row).distribution_of(row["shape"], layout="torch")
    assert law is not None
    return law.std


def test_a_depthwise_convolution_counts_its_taps_in_timm_and_its_channels_in_torchvision() -> None:
    """As the authors' fan_out, k * k * 1, and as PyTorch's, channels * k * k."""
    shape, recipe = (32, 1, 3, 3), recipes.efficientnet()
    for name, fan_out in ("blocks.0.0.conv_dw", 9), ("features.1.0.block.0.0", 32 * 9):
        found = drawn(recipe, {"name": f"{name}.weight", "shape": shape, "kind": "conv"})
        law = found.distribution_of(shape, layout="torch")
        assert law is not None
        assert law.std == pytest.approx((2 / fan_out) ** 0.5)


def test_transformers_efficientnet_is_another() -> None:
    """It draws the weights of its normalisations, which the page of recipes lists."""
    build = hugging_face("EfficientNetModel", image_size=32, depth_coefficient=0.5)
    traced = {rule.name: rule.initializer for rule in portinit_torch.trace(build).rules}
    assert str(traced["embeddings.batchnorm.weight"]) == "normal(std=0.02)"
    assert str(traced["embeddings.convolution.weight"]) == "normal(std=0.02)"
