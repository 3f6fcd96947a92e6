"""Ready recipes of models of speech."""

from __future__ import annotations

from portinit import layers
from portinit.initializers.basic import normal, uniform, zeros
from portinit.initializers.positions import sinusoids
from portinit.initializers.torch_schemes import kaiming_normal
from portinit.recipes.ready.patterns import normal_weights, rules_for
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.recipes.schemes import marked


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
    table = Rule("*encoder.embed_positions.weight", sinusoids())
    return normal_weights(std, *marked("whisper's table of sinusoids", [table]))


_DEFAULTS = ("*feature_projection.projection", "*project_hid", "*project_q")
_DIRECTION = layers.linear_weight()
_POSITIONS = "*pos_conv_embed.conv."
_OF_WEIGHT_NORM = (  # magnitude and direction, by a parametrization and by the older hook
    ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ("weight_g", "weight_v"),
)


def wav2vec2(std: float = 0.02) -> Recipe:
    """Return the recipe of wav2vec 2.0, and of UniSpeech and SEW.

    Weights are N(0, std^2), biases zero, normalisations 1 and 0. The convolutions on the waveform
    are Kaiming normal, with biases U(-b, b), b = 1 / sqrt(fan_in); the projections of features and
    targets are PyTorch's defaults; the codebook and the mask's vector U(0, 1), and the logits of
    the codes N(0, 1).

    The positional convolution has weight norm. Its direction is PyTorch's default U(-b, b) and its
    magnitudes are the direction's norms, so that the weight starts as the direction. fairseq draws
    N(0, 4 (1 - dropout) / (taps width)) there. transformers writes N(0, 4 / (taps width)) to the
    weight that weight norm computes, which changes no parameter; the recipe follows what it does.

    Args:
        std: the standard deviation of the transformer's weights; ``initializer_range`` in
            transformers.

    Returns:
        A recipe of patterns and kinds of layers. Magnitudes of weight norm need the model's
        shapes: bind it to the PyTorch model (:func:`portinit_torch.bind`) before it fills others.

    Source: Baevski et al., "wav2vec 2.0: a framework for self-supervised learning of speech
    representations", NeurIPS 2020; transformers' ``Wav2Vec2ForPreTraining``.

    >>> import portinit
    >>> codebook = portinit.Parameter("quantizer.codevectors", (1, 16, 8))
    >>> portinit.recipes.wav2vec2().find(codebook).initializer
    uniform(a=0.0, b=1.0)
    """
    stored: list[Rule] = []
    for magnitude, direction in _OF_WEIGHT_NORM:
        norms = layers.weight_norm_magnitude(_DIRECTION)
        stored += [Rule(_POSITIONS + magnitude, norms), Rule(_POSITIONS + direction, _DIRECTION)]
    return normal_weights(
        std,
        *stored,
        Rule(f"{_POSITIONS}bias", zeros),
        Rule("*weight", kaiming_normal(), kind="conv"),
        Rule("*bias", layers.fan_in_uniform(), kind="conv"),
        *rules_for((f"{name}.weight" for name in _DEFAULTS), layers.linear_weight()),
        *rules_for((f"{name}.bias" for name in _DEFAULTS), layers.fan_in_uniform()),
        Rule("*quantizer.weight_proj.weight", normal()),
        *rules_for(("*quantizer.codevectors", "*masked_spec_embed"), uniform()),
    )
