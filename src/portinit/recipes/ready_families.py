"""Ready recipes of model families, as Hugging Face's transformers starts them.

Each gives every parameter of its reference the initializer that a trace of the reference finds; the
tests compare them one by one. The names are those of transformers 5.
"""

from __future__ import annotations

from portinit import layers
from portinit.initializers.basic import constant, normal, ones, trunc_normal, zeros
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.positions import sinusoids
from portinit.initializers.state_space import mamba_a_log, mamba_dt_bias
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule


def _normal_weights(std: float, *first: Rule) -> Recipe:
    """All weights and embeddings N(0, std^2), padding rows and biases 0, normalisations 1."""
    return Recipe(
        [
            *first,
            Rule("*norm*weight", ones),
            Rule("*Norm*weight", ones),
            Rule("*weight", ones, kind="norm"),
            Rule("*bias*", zeros),
            Rule("*", layers.padded(normal(std=std)), kind="embedding"),
            Rule("*weight", normal(std=std)),
        ]
    )


def llama(std: float = 0.02) -> Recipe:
    """Return the recipe of Llama, and of Mistral, Qwen and others that follow it.

    Weights and embeddings are N(0, std^2) at any depth, the padding row and biases zero, RMSNorms
    one.

    Args:
        std: the standard deviation; ``initializer_range`` in transformers.

    Returns:
        A recipe of patterns.

    Source: transformers' ``LlamaForCausalLM``.

    >>> import portinit
    >>> norm = portinit.Parameter("model.norm.weight", (8,))
    >>> portinit.recipes.llama().find(norm).initializer
    ones()
    """
    return _normal_weights(std)


def bert(std: float = 0.02) -> Recipe:
    """Return the recipe of BERT and RoBERTa.

    Weights and embeddings are N(0, std^2), the padding row and biases zero, normalisations 1 and 0.
    The original cut the normal at two standard deviations.

    Args:
        std: the standard deviation; ``initializer_range`` in transformers.

    Returns:
        A recipe of patterns.

    Source: Devlin et al., "BERT", NAACL 2019; transformers' ``BertForMaskedLM``.

    >>> import portinit
    >>> weight = portinit.Parameter("encoder.layer.0.output.dense.weight", (8, 8), "linear")
    >>> portinit.recipes.bert().find(weight).initializer
    normal(mean=0.0, std=0.02)
    """
    return _normal_weights(std)


def t5(d_model: int, d_kv: int) -> Recipe:
    """Return the recipe of T5, whose attention has no scale of its own.

    Weights are N(0, 1 / fan_in), queries N(0, 1 / (fan_in d_kv)), the shared embedding N(0, 1), the
    table of relative positions N(0, 1 / d_model), RMSNorms one.

    Args:
        d_model: the width of the model, 1 or more.
        d_kv: the width of a head, 1 or more.

    Returns:
        A recipe of patterns.

    Raises:
        ValueError: a width below 1.

    Source: Raffel et al., "Exploring the limits of transfer learning", JMLR 2020; Mesh TensorFlow;
    transformers' ``T5ForConditionalGeneration``.

    >>> import portinit
    >>> query = portinit.Parameter("encoder.block.0.layer.0.SelfAttention.q.weight", (32, 16))
    >>> rule = portinit.recipes.t5(d_model=16, d_kv=4).find(query)
    >>> rule.initializer.distribution_of((32, 16), layout="torch").std  # 1 / sqrt(16 * 4)
    0.125
    """
    if min(d_model, d_kv) < 1:
        raise ValueError(f"widths must be 1 or more, got d_model={d_model} and d_kv={d_kv}")
    return Recipe(
        [
            Rule("*norm*weight", ones),
            Rule("*relative_attention_bias.weight", normal(std=d_model**-0.5)),
            Rule("*.q.weight", variance_scaling(1 / d_kv, "fan_in", "normal")),
            Rule("*", normal(), kind="embedding"),
            Rule("lm_head.weight", normal()),
            Rule("*weight", variance_scaling(1.0, "fan_in", "normal")),
        ]
    )


def deit(std: float = 0.02) -> Recipe:
    """Return the recipe of DeiT: N(0, std^2) weights; tokens, positions and biases zero.

    Args:
        std: the standard deviation of the weights.

    Returns:
        A recipe of patterns.

    Source: Touvron et al., "Training data-efficient image transformers", ICML 2021; transformers'
    ``DeiTForImageClassification``. timm draws tokens and positions truncated normal, with std 0.02.

    >>> import portinit
    >>> token = portinit.Parameter("deit.embeddings.cls_token", (1, 1, 8))
    >>> portinit.recipes.deit().find(token).initializer
    zeros()
    """
    return _normal_weights(std, Rule("*_token", zeros), Rule("*position_embeddings", zeros))


def vit_hf(std: float = 0.02) -> Recipe:
    """Return the recipe of transformers' ViT: tokens and positions are truncated at two units.

    Weights are N(0, std^2), biases zero. :func:`vit` is timm's.

    Args:
        std: the standard deviation.

    Returns:
        A recipe of patterns.

    Source: transformers' ``ViTForImageClassification``.

    >>> import portinit
    >>> token = portinit.Parameter("vit.embeddings.cls_token", (1, 1, 8))
    >>> portinit.recipes.vit_hf().find(token).initializer
    trunc_normal(mean=0.0, std=0.02, a=-2.0, b=2.0)
    """
    tokens = trunc_normal(std=std)
    return _normal_weights(std, Rule("*_token", tokens), Rule("*position_embeddings", tokens))


def swin(std: float = 0.02) -> Recipe:
    """Return the recipe of Swin: N(0, std^2) weights; biases and relative positions zero.

    Args:
        std: the standard deviation of the weights.

    Returns:
        A recipe of patterns.

    Source: Liu et al., "Swin transformer", ICCV 2021; transformers' ``SwinForImageClassification``.

    >>> import portinit
    >>> weight = portinit.Parameter("classifier.weight", (2, 8), "linear")
    >>> portinit.recipes.swin().find(weight).initializer
    normal(mean=0.0, std=0.02)
    """
    return _normal_weights(std, Rule("*relative_position_bias_table", zeros))


def convnext(std: float = 0.02, layer_scale: float = 1e-6) -> Recipe:
    """Return the recipe of ConvNeXt: N(0, std^2) weights, zero biases, small layer scales.

    Args:
        std: the standard deviation of the weights.
        layer_scale: where the scale of each residual branch's channels starts.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: Liu et al., "A ConvNet for the 2020s", CVPR 2022; transformers'
    ``ConvNextForImageClassification``. The authors' code cuts the normal at two units.

    >>> import portinit
    >>> scale = portinit.Parameter("encoder.stages.0.layers.0.layer_scale_parameter", (8,))
    >>> portinit.recipes.convnext().find(scale).initializer
    constant(val=1e-06)
    """
    return _normal_weights(std, Rule("*layer_scale_parameter", constant(layer_scale)))


def clip(text_width: int, text_layers: int, vision_width: int, vision_layers: int) -> Recipe:
    """Return the recipe of CLIP.

    With a width d and a depth L of either model: queries, keys, values and the second layer of each
    MLP N(0, 1 / (2 L d)), output projections N(0, 1 / d), the first layer of each MLP N(0, 1 / 2d),
    the class embedding and the projections N(0, 1 / d), other embeddings N(0, 0.02^2), biases zero,
    and the logarithm of the temperature's inverse 2.6592.

    Args:
        text_width: d of the text model, 1 or more.
        text_layers: L of the text model, 1 or more.
        vision_width: d of the vision model, 1 or more.
        vision_layers: L of the vision model, 1 or more.

    Returns:
        A recipe of patterns.

    Raises:
        ValueError: a width or a depth below 1.

    Source: Radford et al., "Learning transferable visual models from natural language supervision",
    ICML 2021; transformers' ``CLIPModel``.

    >>> import portinit
    >>> recipe = portinit.recipes.clip(4, 2, 16, 2)
    >>> fc1 = portinit.Parameter("vision_model.encoder.layers.0.mlp.fc2.weight", (16, 64))
    >>> recipe.find(fc1).initializer  # 1 / sqrt(2 * 2 * 16)
    normal(mean=0.0, std=0.125)
    """
    sizes = {"text": (text_width, text_layers), "vision": (vision_width, vision_layers)}
    if min(size for pair in sizes.values() for size in pair) < 1:
        raise ValueError(f"widths and depths must be 1 or more, got {sizes}")
    rules = [Rule("logit_scale", constant(2.6592))]
    for side, (width, depth) in sizes.items():
        branch = normal(std=width**-0.5 * (2 * depth) ** -0.5)
        rules += [Rule(f"{side}_model*.{name}_proj.weight", branch) for name in ("q", "k", "v")]
        rules += [
            Rule(f"{side}_model*.out_proj.weight", normal(std=width**-0.5)),
            Rule(f"{side}_model*.fc1.weight", normal(std=(2 * width) ** -0.5)),
            Rule(f"{side}_model*.fc2.weight", branch),
            Rule(f"{side}_model*.class_embedding", normal(std=width**-0.5)),
        ]
    rules += [
        Rule("text_projection.weight", normal(std=text_width**-0.5)),
        Rule("visual_projection.weight", normal(std=vision_width**-0.5)),
    ]
    return _normal_weights(0.02, *rules)


def whisper(std: float = 0.02) -> Recipe:
    """Return the recipe of Whisper: N(0, std^2) weights, and sinusoids in the encoder.

    Args:
        std: the standard deviation of weights and embeddings.

    Returns:
        A recipe of patterns.

    Source: Radford et al., "Robust speech recognition via large-scale weak supervision", 2022;
    transformers' ``WhisperForConditionalGeneration``.

    >>> import portinit
    >>> table = portinit.Parameter("model.encoder.embed_positions.weight", (30, 8), "embedding")
    >>> portinit.recipes.whisper().find(table).initializer
    sinusoids(longest=10000.0)
    """
    return _normal_weights(std, Rule("*encoder.embed_positions.weight", sinusoids()))


def mamba(std: float = 0.1) -> Recipe:
    """Return the recipe of Mamba.

    A_log is log(1), ..., log(d_state), D one, the bias of dt's projection the inverse softplus of a
    log-uniform step; other weights N(0, std^2) but for the convolution and the output projection,
    which are PyTorch's defaults, and dt's projection U(+-1 / sqrt(dt_rank)).

    Args:
        std: the standard deviation of embeddings and input projections.

    Returns:
        A recipe of patterns.

    Source: Gu and Dao, "Mamba", 2023; transformers' ``MambaForCausalLM``.

    >>> import portinit
    >>> portinit.recipes.mamba().find(portinit.Parameter("layers.0.mixer.D", (8,))).initializer
    ones()
    """
    return _normal_weights(
        std,
        Rule("*A_log", mamba_a_log()),
        Rule("*mixer.D", ones),
        Rule("*dt_proj.bias", mamba_dt_bias()),
        *(Rule(f"*{name}.weight", layers.linear_weight()) for name in _MAMBAS_DEFAULTS),
    )


_MAMBAS_DEFAULTS = ("conv1d", "dt_proj", "out_proj")
