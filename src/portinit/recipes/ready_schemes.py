"""Ready recipes for schemes that depend on depth or width, or that zero parts of a model.

Each names the parameters that its scheme is about. Put it in front of a recipe for the others:
``recipes.layer_scale(1e-5) + recipes.vit()``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase

from portinit.arrays.layouts import Shape
from portinit.initializers.base import Initializer
from portinit.initializers.basic import constant, normal, ones, zeros
from portinit.initializers.combinators import scaled
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.torch_schemes import kaiming_uniform, xavier_normal
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import RecipeError, Rule

Patterns = str | Iterable[str]

_OUTPUTS = (
    *("*.dense.weight", "*.dense_4h_to_h.weight", "*.c_proj.weight", "*.out_proj.weight"),
    *("*.o_proj.weight", "*.down_proj.weight"),
)


def _rules(patterns: Patterns, initializer: Initializer) -> list[Rule]:
    names = (patterns,) if isinstance(patterns, str) else patterns
    return [Rule(name, initializer) for name in names]


def _at_least(name: str, value: int, least: int = 1) -> None:
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")


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
        ValueError: fewer than 1 layer, or a width below 1.

    Source: Nguyen and Salazar, "Transformers without tears", IWSLT 2019, section 2.2; Wang and
    Komatsuzaki, GPT-J-6B, 2021; Black et al., "GPT-NeoX-20B", 2022, section 2.1.

    >>> import portinit
    >>> recipe = portinit.recipes.gpt_neox(layers=2, width=10)
    >>> round(recipe.find(portinit.Parameter("fc.weight", (10, 10))).initializer.std, 6)
    0.2
    """
    _at_least("layers", layers)
    _at_least("width", width)
    return Recipe(
        [
            Rule("*norm*weight", ones),
            Rule("*weight", ones, kind="norm"),
            *_rules(outputs, normal(std=2 / layers / math.sqrt(width))),
            Rule("*bias*", zeros),
            Rule("*weight*", normal(std=math.sqrt(2 / (5 * width)))),
        ]
    )


_VALUES = ("*v_proj.weight", "*out_proj.weight", "*fc1.weight", "*fc2.weight")


def deepnorm(
    encoder_layers: int = 0, decoder_layers: int = 0, branches: Iterable[str] = _VALUES
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
        branches: patterns of the weights that get beta.

    Returns:
        A recipe for linear layers, to put in front of one for embeddings and normalisations.

    Raises:
        ValueError: no layers at all, or a negative number.

    Source: Wang et al., "DeepNet: scaling transformers to 1,000 layers", 2022, figure 2.

    >>> import portinit
    >>> recipe = portinit.recipes.deepnorm(encoder_layers=2)
    >>> recipe.find(portinit.Parameter("0.fc1.weight", (4, 4))).initializer
    xavier_normal(gain=0.5)
    """
    _at_least("encoder_layers", encoder_layers, 0)
    _at_least("decoder_layers", decoder_layers, 0)
    n, m = encoder_layers, decoder_layers
    if not n and not m:
        raise ValueError("deepnorm needs the number of encoder or decoder layers, got 0 of both")
    if n and m:
        gains = {"*encoder": 0.87 * (n**4 * m) ** (-1 / 16), "*decoder": (12 * m) ** -0.25}
    else:
        gains = {"": (8 * (n or m)) ** -0.25}
    rules = [
        Rule(side + pattern, xavier_normal(gain=gain))
        for side, gain in gains.items()
        for pattern in branches
    ]
    others = Rule("*weight", xavier_normal(), kind="linear")
    return Recipe([*rules, others, Rule("*bias", zeros, kind="linear")])


def fixup(
    blocks: int,
    depth: int = 2,
    inside: Patterns = "*layer*.conv1.weight",
    last: Patterns = "*layer*.conv2.weight",
    classifier: Patterns = "fc.*",
) -> Recipe:
    """Return the recipe of Fixup: residual networks that train without normalisation.

    The classifier and the last layer of each residual branch are zero; the others of a branch are
    He normal on fan_out, times blocks^(-1 / (2 depth - 2)). Scalar multipliers (``scale``)
    are 1 and scalar biases (``bias1a`` to ``bias2b``) 0.

    Args:
        blocks: L, the number of residual blocks, 1 or more.
        depth: m, the number of layers of a branch, 2 or more.
        inside: patterns of a branch's weights but its last.
        last: patterns of a branch's last weights.
        classifier: patterns of the classifier's parameters.

    Returns:
        A recipe to put in front of one for the other layers.

    Raises:
        ValueError: fewer blocks or layers than that.

    Source: Zhang, Dauphin, Ma, "Fixup initialization: residual learning without normalization",
    ICLR 2019, section 3.

    >>> import portinit
    >>> recipe = portinit.recipes.fixup(blocks=16)
    >>> recipe.find(portinit.Parameter("layer1.0.conv1.weight", (8, 8, 3, 3))).initializer.scale
    0.125
    """
    _at_least("blocks", blocks)
    _at_least("depth", depth, 2)
    scale = 2 * blocks ** (-1 / (depth - 1))
    return Recipe(
        [
            *_rules(classifier, zeros),
            *_rules(last, zeros),
            *_rules(inside, variance_scaling(scale, "fan_out", "normal")),
            Rule("*.scale", ones),
            Rule("*.bias[12][ab]", zeros),
        ]
    )


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
        ValueError: a width below 1, negative numbers of layers, or none at all.

    Source: Huang et al., "Improving transformer optimization through better initialization", ICML
    2020, section 3.2.

    >>> import portinit
    >>> recipe = portinit.recipes.t_fixup(width=16, encoder_layers=1)
    >>> recipe.find(portinit.Parameter("encoder.0.fc1.weight", (4, 4))).initializer
    xavier_normal(gain=0.67)
    """
    _at_least("width", width)
    _at_least("encoder_layers", encoder_layers, 0)
    _at_least("decoder_layers", decoder_layers, 0)
    gains = {}
    if encoder_layers:
        gains["*encoder"] = 0.67 * encoder_layers**-0.25
    if decoder_layers:
        gains["*decoder"] = (9 * decoder_layers) ** -0.25
    if not gains:
        raise ValueError("t_fixup needs the number of encoder or decoder layers, got 0 of both")
    rules = []
    for side, gain in gains.items():
        rules += [Rule(side + pattern, xavier_normal(gain=gain)) for pattern in _VALUES]
        table = normal(std=gain / math.sqrt(width))
        rules.append(Rule(side + "*", table, kind="embedding"))
    others = Rule("*weight", xavier_normal(), kind="linear")
    return Recipe([*rules, others, Rule("*bias", zeros, kind="linear")])


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
    return Recipe(_rules(patterns, zeros))


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
    return Recipe(_rules(patterns, constant(value)))


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
    return Recipe(_rules(patterns, zeros))


def lora(down: Patterns = "*lora_A*", up: Patterns = "*lora_B*") -> Recipe:
    """Return the rule of LoRA's factors: the first as PyTorch's Linear, the second zero.

    Args:
        down: patterns of the names of A, (rank, in).
        up: patterns of the names of B, (out, rank).

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, section 4.1;
    A is ``kaiming_uniform_(a=sqrt(5))`` in the authors' code.

    >>> import portinit
    >>> portinit.recipes.lora().find(portinit.Parameter("q.lora_B.weight", (8, 2))).initializer
    zeros()
    """
    return Recipe([*_rules(down, kaiming_uniform(a=math.sqrt(5))), *_rules(up, zeros)])


def switch_router(
    scale: float = 0.1, patterns: Patterns = ("*router*weight", "*.gate.weight")
) -> Recipe:
    """Return the rule of the Switch Transformer's weights, for routers and experts.

    Truncated normal with std sqrt(scale / fan_in), a tenth of what transformers had used.

    Args:
        scale: above 0.
        patterns: of the names of the weights.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Fedus, Zoph, Shazeer, "Switch transformers", JMLR 2022, section 2.4.

    >>> import portinit
    >>> rule = portinit.recipes.switch_router().find(portinit.Parameter("router.weight", (4, 10)))
    >>> round(rule.initializer.distribution_of((4, 10), layout="torch").std, 6)
    0.1
    """
    return Recipe(_rules(patterns, variance_scaling(scale, "fan_in", "truncated_normal")))


def class_prior(probability: float = 0.01) -> constant:
    """Return the bias of a classifier whose classes start with a given probability.

    b = -log((1 - p) / p), so that the sigmoid of the outputs is p where the weights give 0.

    Args:
        probability: p, between 0 and 1.

    Returns:
        An initializer.

    Raises:
        ValueError: a probability outside (0, 1).

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4.1.

    >>> import portinit
    >>> portinit.recipes.class_prior(0.5)
    constant(val=0.0)
    """
    if not 0 < probability < 1:
        raise ValueError(f"a probability must be between 0 and 1, got {probability}")
    return constant(math.log(probability / (1 - probability)))


def mup(recipe: Recipe, base: Recipe, inputs: Patterns = ()) -> Recipe:
    """Return a model's recipe in the maximal update parametrization (muP), from its base model's.

    An axis is wide where the model and its base differ. Parameters have the standard deviation of
    the base model's, times

    - sqrt(base fan_in / fan_in) where both axes are wide (hidden layers),
    - base fan_in / fan_in where only the inputs' is (output layers),
    - 1 otherwise: inputs, embeddings, biases and normalisations.

    Args:
        recipe: of the model: traced, or bound to it.
        base: of the base model, with the same names and narrower shapes.
        inputs: patterns of further parameters that are like inputs, such as tables of positions
            that belong to no layer: of these it is not known which axis the inputs lie along.

    Returns:
        The model's recipe with scaled initializers.

    Raises:
        portinit.RecipeError: rules without names or shapes, other names or numbers of axes,
            parameters of no known layer with a single wide axis, and initializers of wide
            parameters whose standard deviation is not known.

    Source: Yang et al., "Tensor programs V: tuning large neural networks via zero-shot
    hyperparameter transfer", 2022, table 3.

    >>> import portinit, portinit_torch, torch
    >>> wide, narrow = (portinit_torch.trace(lambda n=n: torch.nn.Linear(n, 2)) for n in (64, 16))
    >>> weight = portinit.recipes.mup(wide, narrow).rules[0].initializer
    >>> std = weight.distribution_of((2, 64), layout="torch").std
    >>> round(std * 64, 6) == round(16 * (1 / 3 / 16) ** 0.5, 6)
    True
    """
    theirs = {rule.name: rule for rule in base.rules}
    alike = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    rules, amiss = [], []
    for rule in recipe.rules:
        try:
            rules.append(_widened(rule, theirs, alike))
        except ValueError as error:
            amiss.append(f"{rule.name or rule.pattern}: {error}")
    if amiss:
        lines = "\n  ".join(amiss)
        raise RecipeError(f"muP needs a base model of the same parameters:\n  {lines}")
    return Recipe(rules)


def _widened(rule: Rule, base: Mapping[str | None, Rule], inputs: tuple[str, ...]) -> Rule:
    own = base.get(rule.name)
    if rule.name is None or rule.shape is None:
        raise ValueError("the rule has no name or no shape; bind the recipe to the model")
    if own is None or own.shape is None or len(own.shape) != len(rule.shape):
        got = "nothing of this name" if own is None else f"the shape {own.shape}"
        raise ValueError(f"a base parameter is needed for the shape {rule.shape}, got {got}")
    plain = replace(rule, value=None, source=None, drawn_as=None)
    if own.shape == rule.shape and str(own.initializer) == str(rule.initializer):
        return plain
    here, there = _std(rule), _std(own)
    if here == there == 0:
        return plain
    if here == 0:
        raise ValueError("it is constant in the model, and drawn in the base model")
    is_input = any(fnmatchcase(rule.name, pattern) for pattern in inputs)
    ratio = there * (1.0 if is_input else _width_factor(rule, own.shape)) / here
    return plain if ratio == 1 else replace(plain, initializer=scaled(rule.initializer, ratio))


def _std(rule: Rule) -> float:
    assert rule.shape is not None
    distribution = rule.initializer.distribution_of(rule.shape, layout="torch")
    if distribution is None:
        raise ValueError(f"the standard deviation of {rule.initializer} is not known")
    return distribution.std


_FAN_IN_AXES = {"transposed_linear": 0, "conv_transpose": 0, "linear": 1, "conv": 1}


def _width_factor(rule: Rule, base: Shape) -> float:
    """The standard deviation over the base model's: table 3 of Yang et al."""
    shape = rule.shape or ()
    growths = {axis: n / m for axis, (n, m) in enumerate(zip(shape, base, strict=True)) if n != m}
    if len(shape) < 2 or rule.layer == "embedding" or not growths:
        return 1.0
    axis = _FAN_IN_AXES.get(rule.layer or "")
    if axis is None:
        if len(growths) != 2 or len({*growths.values()}) != 1:
            raise ValueError(
                f"no known layer tells which axis of {shape} the inputs lie along; "
                'name it in inputs="..." if it is like an embedding'
            )
        return math.sqrt(1 / growths.popitem()[1])
    if axis not in growths:
        return 1.0
    return math.sqrt(1 / growths[axis]) if 1 - axis in growths else 1 / growths[axis]
