"""Ready recipes of models of images."""

from __future__ import annotations

from typing import Any

from portinit import layers
from portinit.initializers.basic import constant, normal, trunc_normal, zeros
from portinit.initializers.jax_schemes import lecun_normal, variance_scaling
from portinit.initializers.numbers import as_bool
from portinit.initializers.torch_schemes import kaiming_normal
from portinit.recipes.ready.frameworks import BUFFERS, NORMS, torch_defaults
from portinit.recipes.ready.patterns import Patterns, at_least, normal_weights, rules_for
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.recipes.schemes import marked


def vit(std: float = 0.02) -> Recipe:
    """Return the recipe of vision transformers.

    Weights, position and class embeddings are N(0, std^2) cut at two absolute units, which at the
    default std cuts nothing, as in timm's recipe. The patch projection is LeCun normal, as in the
    authors' JAX code, and biases are zero. timm leaves PyTorch's default in the patch projection,
    and draws the class token N(0, 10^-12).

    Args:
        std: the standard deviation of the weights.

    Returns:
        A recipe of patterns.

    Source: Dosovitskiy et al., "An image is worth 16x16 words", ICLR 2021; timm's
    ``init_weights_vit_timm``.

    >>> import portinit
    >>> recipe = portinit.recipes.vit()
    """
    return Recipe(
        [
            *BUFFERS,
            *NORMS,
            Rule("*weight", lecun_normal(), kind="conv"),
            Rule("*patch*weight", lecun_normal()),
            Rule("*bias*", zeros),
            Rule("*", trunc_normal(std=std)),
        ]
    )


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
    return normal_weights(std, Rule("*_token", tokens), Rule("*position_embeddings", tokens))


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
    return normal_weights(std, Rule("*_token", zeros), Rule("*position_embeddings", zeros))


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
    return normal_weights(std, Rule("*relative_position_bias_table", zeros))


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
    return normal_weights(std, Rule("*layer_scale_parameter", constant(layer_scale)))


def resnet(zero_init_residual: bool = False) -> Recipe:
    """ResNets: convolutions Kaiming normal on fan_out for ReLU, the classifier PyTorch's default.

    Args:
        zero_init_residual: start the last normalisation of each block at zero, so that every
            block begins as the identity: ``bn3`` of bottlenecks, ``bn2`` of basic blocks.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: He et al., "Deep residual learning", CVPR 2016; torchvision's ``ResNet``.

    >>> import portinit
    >>> recipe = portinit.recipes.resnet(zero_init_residual=True)
    """
    zero_init_residual = as_bool("zero_init_residual", zero_init_residual)
    last = marked(
        "resnet(zero_init_residual=True)",
        (
            Rule("*.bn3.weight", zeros),
            Rule("*.bn2.weight", layers.zero_if_last(("bn3",)), kind="norm"),
        ),
    )
    return Recipe(
        [
            *(last if zero_init_residual else ()),
            Rule("*weight", kaiming_normal(mode="fan_out", nonlinearity="relu"), kind="conv"),
            *torch_defaults().rules,
        ]
    )


def efficientnet(depthwise: Patterns = "*conv_dw.weight") -> Recipe:
    """Return the recipe of EfficientNet, in torchvision and in timm.

    Convolutions are N(0, 2 / fan_out), the classifier U(-b, b) with b = 1 / sqrt(classes), biases
    zero, normalisations 1 and 0. A depthwise convolution of k x k taps has the fan_out k^2 in the
    authors' TensorFlow code and in timm, which calls it ``conv_dw``; torchvision counts PyTorch's
    fan_out, channels k^2, so that its depthwise weights start smaller by sqrt(channels).

    transformers' ``EfficientNetModel`` draws N(0, 0.02^2), the weights of its normalisations too;
    the recipe does not follow it.

    Args:
        depthwise: patterns of the depthwise convolutions whose fan_out is k^2; ``()`` for none.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks",
    ICML 2019, and the authors' ``conv_kernel_initializer``; torchvision's ``EfficientNet``; timm's
    ``efficientnet``.

    >>> import portinit
    >>> weight = portinit.Parameter("blocks.0.0.conv_dw.weight", (32, 1, 5, 5), "conv")
    >>> rule = portinit.recipes.efficientnet().find(weight)
    >>> rule.initializer.distribution_of((32, 1, 5, 5), layout="torch").std ** 2  # 2 / 25
    0.08
    """
    taps = kaiming_normal(nonlinearity="relu")  # fan_in: one channel of k^2 taps
    return Recipe(
        [
            *rules_for(depthwise, taps),
            Rule("*weight", kaiming_normal(mode="fan_out", nonlinearity="relu"), kind="conv"),
            Rule("*weight", variance_scaling(1 / 3, "fan_out", "uniform"), kind="linear"),
            *BUFFERS,
            *NORMS,
            Rule("*bias", zeros),
        ]
    )


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
        TypeError: a width or a depth that is no integer.
        ValueError: a width or a depth below 1.

    Source: Radford et al., "Learning transferable visual models from natural language supervision",
    ICML 2021; transformers' ``CLIPModel``.

    >>> import portinit
    >>> recipe = portinit.recipes.clip(4, 2, 16, 2)
    >>> fc1 = portinit.Parameter("vision_model.encoder.layers.0.mlp.fc2.weight", (16, 64))
    >>> recipe.find(fc1).initializer  # 1 / sqrt(2 * 2 * 16)
    normal(mean=0.0, std=0.125)
    """
    text_width, text_layers = _size("text", text_width, text_layers)
    vision_width, vision_layers = _size("vision", vision_width, vision_layers)
    sizes = {"text": (text_width, text_layers), "vision": (vision_width, vision_layers)}
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
    return normal_weights(0.02, rules[0], *marked("clip's scale by width and depth", rules[1:]))


def _size(side: str, width: Any, layers: Any) -> tuple[int, int]:
    return at_least(f"{side}_width", width), at_least(f"{side}_layers", layers)
