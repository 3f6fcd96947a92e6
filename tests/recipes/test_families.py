"""The ready recipes of model families, against traces of transformers' own models."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import portinit
import portinit_torch
from portinit import recipes

transformers = pytest.importorskip("transformers")

SIZES: dict[str, int] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
IMAGES = SIZES | {"image_size": 32, "patch_size": 8}
TEXT = SIZES | {"vocab_size": 99}


def hugging_face(model: str, **sizes: Any) -> Callable[[], Any]:
    def build() -> Any:
        kind = getattr(transformers, model)
        return kind(kind.config_class(**sizes))

    return build


FAMILIES = {
    "llama": (recipes.llama(), hugging_face("LlamaForCausalLM", **TEXT, pad_token_id=3)),
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
        compared += 1
    assert compared == len(list(model.named_parameters()))


def draws(initializer: portinit.Initializer, shape: tuple[int, ...]) -> Any:
    return initializer(portinit.key(0), shape, "float32", layout="torch")
