"""Ready recipes for deep residual networks: their branches start small, or at zero.

Each names the parameters that its scheme is about. Put it in front of a recipe for the others:
``recipes.layer_scale(1e-5) + recipes.vit()``.
"""

from __future__ import annotations

import math

from portinit.initializers.basic import constant, normal, ones, zeros
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.torch_schemes import xavier_normal
from portinit.recipes.ready.patterns import Patterns, at_least, rules_for
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.recipes.schemes import marked

_OUTPUTS = (
    *("*.dense.weight", "*.dense_4h_to_h.weight", "*.c_proj.weight", "*.out_proj.weight"),
    *("*.o_proj.weight", "*.down_proj.weight"),
)


def gpt_neox(layers: int, width: int, outputs: Patterns = _OUTPUTS) -> Recipe:
    """Return the recipe of GPT-NeoX: small initialisation, and Wang's for residual projections.

    Weights and embeddings are N(0, 2 / (5 width)), residual projections N(0, (2 / layers)^2 /
    width), normalisations 1 and 0, biases zero.

    Args:
        layers: the number of blocks, 1 or more.
        width: the size of the hidden state, 1 or more.
        outputs: patterns of the projections that end a residual branch.

    Returns:
        A recipe of patterns.

    Raises:
        TypeError: a number of layers or a width that is no integer.
        ValueError: fewer than 1 layer, or a width below 1.

    Source: Nguyen and Salazar, "Transformers without tears", IWSLT 2019, section 2.2; Wang and
    Komatsuzaki, GPT-J-6B, 2021; Black et al., "GPT-NeoX-20B", 2022, section 2.1.

    >>> import portinit
    >>> recipe = portinit.recipes.gpt_neox(layers=2, width=10)
    >>> round(recipe.find(portinit.Parameter("fc.weight", (10, 10))).initializer.std, 6)
    0.2
    """
    layers = at_least("layers", layers)
    width = at_least("width", width)
    residual = normal(std=2 / layers / math.sqrt(width))
    return Recipe(
        [
            Rule("*norm*weight", ones),
            Rule("*weight", ones, kind="norm"),
            *marked("gpt_neox(outputs=...)", rules_for(outputs, residual)),
            Rule("*bias*", zeros),
            Rule("*weight*", normal(std=math.sqrt(2 / (5 * width)))),
        ]
    )


_BRANCH = ("v_proj", "out_proj", "fc1", "fc2")
_BRANCHES = tuple(f"{before}{name}.weight" for name in _BRANCH for before in ("", "*."))


_IN = {"": "", "*encoder": " in the encoder", "*decoder": " in the decoder"}


def deepnorm(
    encoder_layers: int = 0, decoder_layers: int = 0, branches: Patterns = _BRANCHES
) -> Recipe:
    """Return the recipe of DeepNet, whose residual connections are LayerNorm(alpha x + f(x)).

    Feed-forward weights, value and output projections are Xavier normal with gain beta, queries and
    keys with gain 1, biases zero:

    | layers | alpha | beta |
    |---|---|---|
    | N of an encoder alone, or of a decoder alone | (2N)^(1/4) | (8N)^(-1/4) |
    | N of an encoder before M of a decoder | 0.81 (N^4 M)^(1/16) | 0.87 (N^4 M)^(-1/16) |
    | M of a decoder behind an encoder | (3M)^(1/4) | (12M)^(-1/4) |

    Args:
        encoder_layers: N, or 0 without an encoder; names hold "encoder" where both are there.
        decoder_layers: M, or 0 without a decoder; names hold "decoder" where both are there.
        branches: patterns of the weights that get beta, by default those of ``v_proj``,
            ``out_proj``, ``fc1`` and ``fc2``. Packed queries, keys and values need a rule in front,
            such as ``blocks((xavier_normal(), xavier_normal(), xavier_normal(gain=beta)))``.

    Returns:
        A recipe for linear layers, to put in front of one for embeddings and normalisations.

    Raises:
        TypeError: a number of layers that is no integer.
        ValueError: no layers at all, or a negative number.

    torchscale multiplies the encoder before a decoder by 1.15, and not by 0.87 = 1 / 1.15; the
    recipe keeps the paper's number, which its bound on updates gives.

    Source: Wang et al., "DeepNet: scaling transformers to 1,000 layers", 2022, figure 2.

    >>> import portinit
    >>> recipe = portinit.recipes.deepnorm(encoder_layers=2)
    >>> recipe.find(portinit.Parameter("0.fc1.weight", (4, 4))).initializer
    xavier_normal(gain=0.5)
    """
    encoder_layers = at_least("encoder_layers", encoder_layers, 0)
    decoder_layers = at_least("decoder_layers", decoder_layers, 0)
    n, m = encoder_layers, decoder_layers
    if not n and not m:
        raise ValueError("deepnorm needs the number of encoder or decoder layers, got 0 of both")
    if n and m:
        # The decoder comes first: it may hold attention called encoder_attn.
        gains = {"*decoder": (12 * m) ** -0.25, "*encoder": 0.87 * (n**4 * m) ** (-1 / 16)}
    else:
        gains = {"": (8 * (n or m)) ** -0.25}
    ends = (branches,) if isinstance(branches, str) else tuple(branches)
    rules: list[Rule] = []
    for side, gain in gains.items():
        own = rules_for([side + end for end in ends], xavier_normal(gain=gain))
        rules += marked(f"deepnorm(branches=...){_IN[side]}", own)
    others = Rule("*weight", xavier_normal(), kind="linear")
    return Recipe([*rules, others, Rule("*bias", zeros, kind="linear")])


def t_fixup(width: int, encoder_layers: int = 0, decoder_layers: int = 0) -> Recipe:
    """Return the recipe of T-Fixup: transformers without warmup and normalisation.

    Embeddings are N(0, 1 / width). Value and output projections and feed-forward weights are Xavier
    normal, times 0.67 N^(-1/4) in the encoder and (9 M)^(-1/4) in the decoder, and so are the
    embeddings; queries and keys are Xavier normal.

    Args:
        width: the size of the embeddings, 1 or more.
        encoder_layers: N; names of the encoder's parameters hold "encoder".
        decoder_layers: M; names of the decoder's parameters hold "decoder".

    Returns:
        A recipe for linear layers and embeddings.

    Raises:
        TypeError: a number of layers or a width that is no integer.
        ValueError: a width below 1, negative numbers of layers, or none at all.

    Source: Huang et al., "Improving transformer optimization through better initialization", ICML
    2020, section 3.2.

    >>> import portinit
    >>> recipe = portinit.recipes.t_fixup(width=16, encoder_layers=1)
    >>> recipe.find(portinit.Parameter("encoder.0.fc1.weight", (4, 4))).initializer
    xavier_normal(gain=0.67)
    """
    width = at_least("width", width)
    encoder_layers = at_least("encoder_layers", encoder_layers, 0)
    decoder_layers = at_least("decoder_layers", decoder_layers, 0)
    gains = {}
    if decoder_layers:  # first: it may hold attention called encoder_attn
        gains["*decoder"] = (9 * decoder_layers) ** -0.25
    if encoder_layers:
        gains["*encoder"] = 0.67 * encoder_layers**-0.25
    if not gains:
        raise ValueError("t_fixup needs the number of encoder or decoder layers, got 0 of both")
    rules: list[Rule] = []
    for side, gain in gains.items():
        own = rules_for([side + pattern for pattern in _BRANCHES], xavier_normal(gain=gain))
        rules += marked(f"t_fixup{_IN[side]}", own)
        table = normal(std=gain / math.sqrt(width))
        rules.append(Rule(side + "*", table, kind="embedding"))
    others = Rule("*weight", xavier_normal(), kind="linear")
    return Recipe([*rules, others, Rule("*bias", zeros, kind="linear")])


def fixup(
    blocks: int,
    depth: int = 2,
    inside: Patterns | None = None,
    last: Patterns | None = None,
    classifier: Patterns = "fc.*",
) -> Recipe:
    """Return the recipe of Fixup: residual networks that train without normalisation.

    The classifier and the last layer of each residual branch are zero; the others of a branch are
    He normal on fan_out, times blocks^(-1 / (2 depth - 2)). Convolutions of shortcuts
    (``downsample``) are He normal on fan_out, scalar multipliers (``scale``) 1 and scalar biases
    (``bias1``, ``bias1a`` and so on) 0.

    Args:
        blocks: L, the number of residual blocks, 1 or more.
        depth: m, the number of layers of a branch, 2 or more.
        inside: patterns of a branch's weights but its last; by default those of ``conv1`` to
            ``conv{m - 1}`` in ``layer1``, ``layer2`` and so on, the names of the authors' code.
        last: patterns of a branch's last weights; by default those of ``conv{m}``.
        classifier: patterns of the classifier's parameters.

    Returns:
        A recipe to put in front of one for the other layers.

    Raises:
        TypeError: a number of blocks or layers that is no integer.
        ValueError: fewer blocks or layers than that.

    Source: Zhang, Dauphin, Ma, "Fixup initialization: residual learning without normalization",
    ICLR 2019, section 3, and the authors' ``FixupResNet``.

    >>> import portinit
    >>> recipe = portinit.recipes.fixup(blocks=16)
    >>> recipe.find(portinit.Parameter("layer1.0.conv1.weight", (8, 8, 3, 3))).initializer.scale
    0.125
    """
    blocks = at_least("blocks", blocks)
    depth = at_least("depth", depth, 2)
    names = [f"*layer*.conv{number}.weight" for number in range(1, depth + 1)]
    inside, last = names[:-1] if inside is None else inside, names[-1] if last is None else last
    within = variance_scaling(2 * blocks ** (-1 / (depth - 1)), "fan_out", "normal")
    return Recipe(
        [
            *rules_for(classifier, zeros),
            *marked("fixup(last=...)", rules_for(last, zeros)),
            *marked("fixup(inside=...)", rules_for(inside, within)),
            Rule("*downsample*weight", variance_scaling(2.0, "fan_out", "normal"), kind="conv"),
            Rule("*.scale", ones),
            *rules_for(("bias[0-9]", "*.bias[0-9]", "*.bias[0-9][ab]"), zeros),
        ]
    )


def rezero(patterns: Patterns = ("*resweight", "*skip_gain", "*rezero*")) -> Recipe:
    """Return the rule of ReZero and SkipInit: the scalar before each residual branch is zero.

    Args:
        patterns: of the scalars' names.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Bachlechner et al., "ReZero is all you need", UAI 2021, eq. 2; De and Smith, "Batch
    normalization biases residual blocks towards the identity function", NeurIPS 2020, section 4.

    >>> import portinit
    >>> portinit.recipes.rezero().find(portinit.Parameter("0.resweight", (1,))).initializer
    zeros()
    """
    return Recipe(marked("rezero(patterns=...)", rules_for(patterns, zeros)))


def layer_scale(
    value: float = 1e-5,
    patterns: Patterns = ("*ls?.gamma", "*gamma_?", "*lambda?", "*layer_scale*"),
) -> Recipe:
    """Return the rule of LayerScale: each channel of a residual branch starts at a small number.

    Args:
        value: 0.1 up to 18 blocks, 1e-5 up to 24, 1e-6 above, in the paper.
        patterns: of the names of the scales.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Touvron et al., "Going deeper with image transformers", ICCV 2021, section 2.

    >>> import portinit
    >>> portinit.recipes.layer_scale(0.1).find(portinit.Parameter("0.ls1.gamma", (8,))).initializer
    constant(val=0.1)
    """
    return Recipe(marked("layer_scale(patterns=...)", rules_for(patterns, constant(value))))


def adaln_zero(
    patterns: Patterns = ("*adaLN_modulation*", "*final_layer.linear*"),
) -> Recipe:
    """Return the rule of adaLN-Zero: modulations and the last layer are zero.

    Each block of a diffusion transformer then starts as the identity.

    Args:
        patterns: of the names of these layers' parameters.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Peebles and Xie, "Scalable diffusion models with transformers", ICCV 2023, section 3.2.

    >>> import portinit
    >>> weight = portinit.Parameter("blocks.0.adaLN_modulation.1.weight", (24, 4))
    >>> portinit.recipes.adaln_zero().find(weight).initializer
    zeros()
    """
    return Recipe(marked("adaln_zero(patterns=...)", rules_for(patterns, zeros)))
