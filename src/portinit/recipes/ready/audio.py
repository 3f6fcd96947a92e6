"""Ready recipes of models of speech."""

from __future__ import annotations

from portinit.initializers.positions import sinusoids
from portinit.recipes.ready.patterns import normal_weights
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule


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
    return normal_weights(std, Rule("*encoder.embed_positions.weight", sinusoids()))
