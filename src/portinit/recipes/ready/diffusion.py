"""Ready recipes of diffusion models, by the names of their authors' code and of diffusers."""

from __future__ import annotations

from portinit.initializers.basic import normal, ones, zeros
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.numbers import as_bool
from portinit.initializers.positions import sinusoids_2d
from portinit.initializers.torch_schemes import xavier_uniform
from portinit.recipes.ready.depth import adaln_zero
from portinit.recipes.ready.frameworks import torch_defaults
from portinit.recipes.ready.patterns import rules_for
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.recipes.schemes import marked

_OF_DIFFUSERS = ("*transformer_blocks.*norm1.linear.*", "*proj_out_[12].*")


def dit(std: float = 0.02) -> Recipe:
    """Return the recipe of DiT, the diffusion transformer with adaLN-Zero.

    Linear layers are Xavier uniform, and so is the patch projection, as the linear layer that it
    is: U(-b, b) with b = sqrt(6 / (channels patch^2 + width)). The class table and the MLP of the
    time step are N(0, std^2), modulations and the last layer zero (:func:`adaln_zero`), positions
    :class:`portinit.sinusoids_2d`, biases zero.

    diffusers' ``DiTTransformer2DModel`` draws PyTorch's defaults in its constructor; under its
    names this recipe gives what the authors' code draws.

    Args:
        std: the standard deviation of the embeddings of classes and time steps.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: Peebles and Xie, "Scalable diffusion models with transformers", ICCV 2023, sections 3.2
    and 4; ``initialize_weights`` of the authors' ``models.py``.

    >>> import portinit
    >>> weight = portinit.Parameter("blocks.0.adaLN_modulation.1.weight", (24, 4), "linear")
    >>> portinit.recipes.dit().find(weight).initializer
    zeros()
    """
    patches = variance_scaling(1.0, "fan_avg", "uniform", in_axis=(1, 2, 3), out_axis=0)
    packed = variance_scaling(0.5, "fan_in", "uniform")  # Xavier of (3 width, width)
    embeddings = ("*embedding_table.weight", "*t_embedder.*weight", "*timestep_embedder.*weight")
    return Recipe(
        [
            *marked("dit's adaLN-Zero", (*adaln_zero().rules, *rules_for(_OF_DIFFUSERS, zeros))),
            Rule("*pos_embed", sinusoids_2d()),
            *rules_for(embeddings, normal(std=std)),
            Rule("*weight", patches, kind="conv"),
            Rule("*attn1.to_[qkv].weight", packed),
            Rule("*weight", ones, kind="norm"),
            Rule("*bias", zeros),
            Rule("*weight", xavier_uniform()),
        ]
    )


# The authors' names, then those of diffusers, which share proj_out.
_BLOCK_ENDS = ("*out_layers.3.*", "*resnets.*.conv2.*")
_LAST = ("out.2.*", "*.out.2.*", "*conv_out.*")


def diffusion_unet(zero_init: bool = True) -> Recipe:
    """Return the recipe of Stable Diffusion's UNet: PyTorch's defaults, branches ending in zero.

    The last convolution of each residual block, the output projection of each attention block and
    the last convolution of the model are zero, so that every branch begins as the identity.

    Args:
        zero_init: whether they are. They are in the authors' code; ``False`` is what diffusers'
            ``UNet2DConditionModel`` draws, which expects a checkpoint.

    Returns:
        A recipe of patterns and kinds of layers.

    Source: Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR
    2022; ``zero_module`` in the authors' ``openaimodel.py``, after Dhariwal and Nichol, "Diffusion
    models beat GANs on image synthesis", NeurIPS 2021.

    >>> import portinit
    >>> weight = portinit.Parameter("mid_block.resnets.0.conv2.weight", (8, 8, 3, 3), "conv")
    >>> portinit.recipes.diffusion_unet().find(weight).initializer
    zeros()
    """
    ends = [
        *marked("diffusion_unet's zero end of residual blocks", rules_for(_BLOCK_ENDS, zeros)),
        *rules_for("*proj_out.*", zeros),
        *marked("diffusion_unet's zero last convolution", rules_for(_LAST, zeros)),
    ]
    ends = ends if as_bool("zero_init", zero_init) else []
    return Recipe([*ends, *torch_defaults().rules])
