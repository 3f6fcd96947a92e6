"""Models of the transformers library, small: replayed bit for bit from their own constructors."""

import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from portinit import Recipe
from portinit_torch import trace

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what transformers itself warns of on import
    import transformers

SEEDS = (0, 1234)

TEXT: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
}
DECODER = TEXT | {"num_key_value_heads": 2, "max_position_embeddings": 32, "head_dim": 8}
DECODER |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
IMAGE = {key: TEXT[key] for key in TEXT if key != "vocab_size"} | {
    "image_size": 16,
    "patch_size": 4,
}
SPEECH = TEXT | {"conv_dim": (8, 8), "conv_stride": (2, 2), "conv_kernel": (3, 3)}
SPEECH |= {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 16}
SPEECH |= {"num_conv_pos_embedding_groups": 4, "mask_time_length": 2}

# Model, the fields of its configuration, and the tensors that may be off by 1e-6.
MODELS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "AlbertForMaskedLM": (TEXT | {"embedding_size": 16}, ()),
    "BartForConditionalGeneration": (
        {
            "vocab_size": 61, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 20,
            "decoder_ffn_dim": 20, "max_position_embeddings": 20,
        },
        (),
    ),
    "BertForPreTraining": (TEXT, ()),
    "BlipForConditionalGeneration": (
        {"text_config": TEXT | {"encoder_hidden_size": 32}, "vision_config": IMAGE},
        (),
    ),
    "BloomForCausalLM": ({"vocab_size": 61, "hidden_size": 32, "n_layer": 2, "n_head": 4}, ()),
    "CLIPModel": ({"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 16}, ()),
    "ConvNextForImageClassification": (
        {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        (),
    ),
    "DebertaV2ForMaskedLM": (
        TEXT | {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["c2p", "p2c"]},
        (),
    ),
    "Dinov2Model": (IMAGE, ()),
    "DistilBertForMaskedLM": (
        {"vocab_size": 61, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40},
        (),
    ),
    "ElectraForPreTraining": (TEXT | {"embedding_size": 16}, ()),
    "FalconForCausalLM": (TEXT, ()),
    "GemmaForCausalLM": (DECODER, ()),
    "GPT2LMHeadModel": (
        {"vocab_size": 61, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40},
        (),
    ),
    "GPTNeoXForCausalLM": (TEXT, ()),
    "LlamaForCausalLM": (DECODER, ()),
    "MambaForCausalLM": (
        {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        tuple(f"backbone.layers.{i}.mixer.dt_proj.bias" for i in range(2)),  # exp is MKL's
    ),
    "MistralForCausalLM": (DECODER, ()),
    "OPTForCausalLM": (
        {
            "vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 40,
            "num_attention_heads": 4, "word_embed_proj_dim": 16, "max_position_embeddings": 30,
        },
        (),
    ),
    "PhiForCausalLM": (TEXT, ()),
    "Qwen2ForCausalLM": (DECODER, ()),
    "ResNetForImageClassification": (
        {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        (),
    ),
    "RobertaForMaskedLM": (TEXT, ()),
    "SegformerForSemanticSegmentation": (
        {
            "num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "strides": [4, 2],
            "hidden_sizes": [8, 16], "num_attention_heads": [1, 2], "patch_sizes": [7, 3],
            "mlp_ratios": [2, 2], "decoder_hidden_size": 16,
        },
        (),
    ),
    "SwinForImageClassification": (
        {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 2], "num_heads": [2, 4],
         "window_size": 2},
        (),
    ),
    "T5ForConditionalGeneration": (
        {"vocab_size": 61, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4},
        (),
    ),
    "ViTForImageClassification": (IMAGE, ()),
    "Wav2Vec2Model": (
        SPEECH,
        ("encoder.pos_conv_embed.conv.parametrizations.weight.original0",),
    ),
    "WhisperForConditionalGeneration": (
        {
            "vocab_size": 61, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
            "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 20,
            "decoder_ffn_dim": 20, "num_mel_bins": 8, "max_source_positions": 20,
            "max_target_positions": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
            "decoder_start_token_id": 1,
        },
        (),
    ),
}  # fmt: skip


def builder(name: str) -> Callable[[], nn.Module]:
    cls = getattr(transformers, name)
    fields = MODELS[name][0]
    return lambda: cls(cls.config_class(**fields))


def tensors(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.detach() for name, t in [*module.named_parameters(), *module.named_buffers()]}


@pytest.mark.parametrize("name", MODELS)
def test_replay_is_what_the_constructor_gives(name):
    build, near = builder(name), MODELS[name][1]
    recipe = Recipe.from_json(trace(build).to_json())
    for seed in SEEDS:
        torch.manual_seed(seed)
        expected = tensors(build())
        values = recipe.replay(seed)
        assert list(values) == list(expected)
        different = []
        for key, tensor in expected.items():
            value = values[key]
            assert (value.dtype, value.shape) == (tensor.numpy().dtype, tuple(tensor.shape))
            if key in near:
                np.testing.assert_allclose(value, tensor.numpy(), atol=1e-6, rtol=0)
            elif value.tobytes() != tensor.contiguous().numpy().tobytes():
                different.append(key)
        assert not different
        assert any(v.size > 1 and np.std(v.astype(float)) > 0 for v in values.values())
    assert set(near) <= set(expected)


@pytest.mark.parametrize("name", ["LlamaForCausalLM", "ViTForImageClassification"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(name, dtype):
    """``dtype=`` of the configuration: parameters are drawn in it."""
    cls = getattr(transformers, name)
    make = cls._from_config
    fields = MODELS[name][0]

    def build() -> nn.Module:
        return make(cls.config_class(**fields), dtype=getattr(torch, dtype))

    recipe = Recipe.from_json(trace(build).to_json())
    torch.manual_seed(3)
    expected = tensors(build())
    values = recipe.replay(3)
    assert list(values) == list(expected)
    assert {v.dtype.name for v in values.values()} & {dtype}
    for key, tensor in expected.items():
        flat = tensor.contiguous().view(torch.uint8) if tensor.ndim else tensor
        assert values[key].dtype.name == str(tensor.dtype).removeprefix("torch."), key
        assert values[key].tobytes() == flat.numpy().tobytes(), key


def test_the_table_is_long_enough():
    assert len(MODELS) >= 20
