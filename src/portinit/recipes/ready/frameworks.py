"""Ready recipes of what the frameworks' layers draw by themselves."""

from __future__ import annotations

from portinit import layers
from portinit.initializers.basic import constant, normal, ones, zeros
from portinit.initializers.jax_schemes import lecun_normal, variance_scaling
from portinit.initializers.matrices import orthogonal
from portinit.initializers.torch_schemes import xavier_normal, xavier_uniform
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule

BUFFERS = (
    Rule("*running_mean", zeros),
    Rule("*running_var", ones),
    Rule("*num_batches_tracked", zeros),
)


NORMS = (Rule("*weight", ones, kind="norm"), Rule("*bias", zeros, kind="norm"))


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
            *BUFFERS,
            *NORMS,
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
            *BUFFERS,
            *_WRAPPERS_OF_FLAX,
            *NORMS,
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
