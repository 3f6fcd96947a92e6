"""Ready recipes: what the frameworks do by themselves, and what model families usually do.

A family's recipe speaks of PyTorch's names, which a Flax tree's paths are translated to. Put rules
of your own in front: ``Recipe([("head.*", portinit.zeros)]) + recipes.gpt2(layers=12)``.
"""

from __future__ import annotations

import math

from portinit import layers
from portinit.initializers.basic import constant, normal, ones, trunc_normal, zeros
from portinit.initializers.jax_schemes import lecun_normal, variance_scaling
from portinit.initializers.matrices import orthogonal
from portinit.initializers.torch_schemes import kaiming_normal, xavier_normal, xavier_uniform
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule

_BUFFERS = (
    Rule("*running_mean", zeros),
    Rule("*running_var", ones),
    Rule("*num_batches_tracked", zeros),
)
_NORMS = (Rule("*weight", ones, kind="norm"), Rule("*bias", zeros, kind="norm"))
_WITH_KERNELS = ("linear", "conv", "conv_transpose")


def torch_defaults() -> Recipe:
    """Return the recipe of PyTorch's layers: what each draws by itself.

    Linear, convolutions and their biases U(+-1/sqrt(fan_in)), recurrent layers
    U(+-1/sqrt(hidden_size)), embeddings N(0, 1) with a zero padding row, packed attention Xavier
    uniform with zero biases, normalisations 1 and 0, PReLU 0.25.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: ``reset_parameters`` of PyTorch 2.13's modules.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.torch_defaults()
    >>> layer = portinit_torch.initialize(torch.nn.Linear(4, 2), recipe, portinit.key(0))
    >>> bool((layer.weight.abs() <= 0.5).all())  # 1 / sqrt(4)
    True
    """
    return Recipe(
        [
            *_BUFFERS,
            *_NORMS,
            Rule("*", layers.embedding(), kind="embedding"),
            Rule("*", layers.fan_in_uniform(), kind="recurrent"),
            Rule("*bias_[kv]", xavier_normal(), kind="attention"),
            Rule("*bias", zeros, kind="attention"),
            Rule("*weight", xavier_uniform(), kind="attention"),
            Rule("*", constant(0.25), kind="prelu"),
            *(Rule("*bias", layers.fan_in_uniform(), kind=k) for k in _WITH_KERNELS),
            *(Rule("*weight", layers.linear_weight(), kind=k) for k in _WITH_KERNELS),
            Rule("*", layers.fan_in_uniform(), kind="bilinear"),
        ]
    )


# Flax's WeightNorm and SpectralNorm name what they keep by the path within the wrapped layer,
# joined by slashes in linen, a tuple in nnx. No other names hold a slash or a quotation mark.
_WRAPPERS_OF_FLAX = (
    *(Rule(f"*{end}", ones, kind="parametrized") for end in ("/scale", "/sigma", "'sigma')")),
    Rule("*/u", normal(), kind="parametrized"),
    Rule("*'u')", normal(std=0.01), kind="parametrized"),
)


def flax_defaults() -> Recipe:
    """Return the recipe of Flax's layers: what each draws by itself.

    Kernels LeCun normal (truncated), biases zero, recurrent kernels orthogonal for each gate,
    embeddings N(0, 1/features), normalisations 1 and 0, PReLU 0.01.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: flax 0.12's linen and nnx modules.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.flax_defaults()
    >>> layer = portinit_torch.initialize(torch.nn.Linear(4, 2), recipe, portinit.key(0))
    >>> layer.bias.tolist()
    [0.0, 0.0]
    """
    table = variance_scaling(1.0, "fan_in", "normal", out_axis=0)
    return Recipe(
        [
            *_BUFFERS,
            *_WRAPPERS_OF_FLAX,
            *_NORMS,
            Rule("*", layers.padded(table), kind="embedding"),
            Rule("*weight_hh*", layers.per_gate(orthogonal()), kind="recurrent"),
            Rule("*weight_ih*", layers.per_gate(lecun_normal()), kind="recurrent"),
            # Flax's own cells: a kernel a gate, or one for all of them.
            Rule("*.h[ifgorzn].weight", orthogonal(), kind="recurrent"),
            Rule("h[ifgorzn].weight", orthogonal(), kind="recurrent"),
            Rule("*dense_h.weight", orthogonal()),
            Rule("*", constant(0.01), kind="prelu"),
            Rule("*bias*", zeros),
            Rule("*weight*", lecun_normal()),
        ]
    )


def _residual(std: float, depth: int) -> normal:
    return normal(std=std / math.sqrt(2 * depth))


def gpt2(layers: int, std: float = 0.02) -> Recipe:
    """Return the recipe of GPT-2.

    Weights and embeddings are N(0, std^2), residual projections N(0, std^2 / (2 * layers)), biases
    zero.

    Args:
        layers: the number of blocks, 1 or more, each with two residual projections (``proj``,
            ``c_proj``, ``out_proj``).
        std: the standard deviation of all other weights.

    Returns:
        A recipe of patterns.

    Raises:
        ValueError: fewer than 1 layer.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019, 2.3.

    >>> import portinit
    >>> recipe = portinit.recipes.gpt2(layers=12)
    """
    if layers < 1:
        raise ValueError(f"layers must be 1 or more, got {layers}")
    return Recipe(
        [
            *_BUFFERS,
            *_NORMS,
            *(Rule(f"*.{name}.weight", _residual(std, layers)) for name in _RESIDUAL),
            Rule("*bias*", zeros),
            Rule("*weight*", normal(std=std)),
        ]
    )


_RESIDUAL = ("proj", "c_proj", "out_proj", "o_proj", "down_proj")


def vit(std: float = 0.02) -> Recipe:
    """Return the recipe of vision transformers.

    Weights, position and class embeddings are N(0, std^2) cut at two absolute units, which at the
    default std cuts nothing, as in timm's recipe. The patch projection is LeCun normal; biases are
    zero.

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
            *_BUFFERS,
            *_NORMS,
            Rule("*weight", lecun_normal(), kind="conv"),
            Rule("*patch*weight", lecun_normal()),
            Rule("*bias*", zeros),
            Rule("*", trunc_normal(std=std)),
        ]
    )


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
    last = (
        Rule("*.bn3.weight", zeros),
        Rule("*.bn2.weight", layers.zero_if_last(("bn3",)), kind="norm"),
    )
    return Recipe(
        [
            *(last if zero_init_residual else ()),
            Rule("*weight", kaiming_normal(mode="fan_out", nonlinearity="relu"), kind="conv"),
            *torch_defaults().rules,
        ]
    )


def packed_experts(pattern: str = "*experts*", in_axis: int = -1, out_axis: int = -2) -> Recipe:
    """Experts in one tensor, such as (experts, out, in): each starts as PyTorch's Linear does.

    The expert's axis counts in no fan, so that the weights are U(+-1/sqrt(in)).
    PyTorch's own schemes take the first two axes of any tensor for outputs and inputs.

    Args:
        pattern: of the names of the packed weights; put biases, of one axis an expert, in a rule
            in front.
        in_axis: the axis of the tensor that the inputs lie along, of 1 and 2.
        out_axis: the axis of the outputs.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: ``torch.nn.Linear.reset_parameters``, for each expert.

    >>> import portinit
    >>> rule = packed_experts().find(portinit.Parameter("experts.up", (8, 64, 16)))
    >>> rule.initializer.distribution_of((8, 64, 16), layout="torch").std  # of U(+-1/4)
    0.14433756729740643
    """
    each = variance_scaling(1 / 3, "fan_in", "uniform", in_axis, out_axis, batch_axis=0)
    return Recipe([Rule(pattern, each)])
