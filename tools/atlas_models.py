"""Which architectures the atlas has, and how each is built small."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

LAYERS = {
    "num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers",
    "num_decoder_layers", "num_encoder_layers", "depth",
}  # fmt: skip
"""Attributes of a configuration that say how deep a model is."""

SMALL: dict[str, Any] = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "embed_dim": 32, "dim": 32,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, **dict.fromkeys(LAYERS, 2), "num_attention_heads": 4,
    "n_head": 4, "num_heads": 4, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 99, "max_position_embeddings": 64,
    "n_positions": 64, "image_size": 32, "patch_size": 8, "num_experts": 4,
    "num_local_experts": 4, "n_routed_experts": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""Sizes of a small model, for the attributes that a configuration has."""

Build = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Size:
    """One way to build an architecture.

    Attributes:
        name: ``"small"``, or ``"default"`` for the configuration as it stands.
        build: makes the model.
        deeper: makes it with twice as many layers; None if its depth cannot be told.
    """

    name: str
    build: Build
    deeper: Build | None = None


def architectures() -> dict[str, str]:
    """The atlas's architectures: each with its library."""
    lists = {"transformers": _transformers, "timm": _timm, "torchvision": _torchvision}
    return {name: library for library, names in lists.items() for name in names()}


def family_of(name: str, library: str) -> str:
    """What an architecture's kin have in common: its configuration's name, or its module's."""
    if library == "transformers":
        return _transformers()[name].removesuffix("Config")
    return name.removeprefix("torchvision.")


def sizes(name: str, library: str) -> Iterator[Size]:
    """Ways to build an architecture, the smallest first.

    Raises:
        ImportError: it needs a library that is not there.
        AttributeError: the library does not have it.
    """
    ways = {
        "transformers": _transformers_sizes,
        "timm": _timm_sizes,
        "torchvision": _torchvision_sizes,
    }
    return ways[library](name)


# transformers


def _transformers() -> dict[str, str]:
    """Base models, models of language, what is pretrained, and what has no base model.

    Each with its configuration's class. Other heads (for classification and the like) start as
    their base models do.
    """
    try:
        from transformers.models.auto import modeling_auto
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    except ImportError:
        return {}
    bases = modeling_auto.MODEL_MAPPING_NAMES
    language = [
        *modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items(),
        *modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.items(),
        *modeling_auto.MODEL_FOR_PRETRAINING_MAPPING_NAMES.items(),
    ]
    heads = [
        (kind, models)
        for table in sorted(vars(modeling_auto))
        if table.startswith("MODEL_FOR_") and table.endswith("_MAPPING_NAMES")
        for kind, models in getattr(modeling_auto, table).items()
        if kind not in bases
    ]
    found: dict[str, str] = {}
    for kind, models in [*bases.items(), *language, *heads]:
        for model in models if isinstance(models, tuple) else (models,):
            if kind in CONFIG_MAPPING_NAMES:
                found.setdefault(model, CONFIG_MAPPING_NAMES[kind])
    return found


def _transformers_sizes(name: str) -> Iterator[Size]:
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers

    config, model = getattr(transformers, _transformers()[name]), getattr(transformers, name)

    def small(layers: int) -> Any:
        made = config()
        for part in _parts(made):
            for attribute, value in SMALL.items():
                if isinstance(getattr(part, attribute, None), int):
                    setattr(part, attribute, layers if attribute in LAYERS else value)
        return model(made)

    yield Size("small", lambda: small(2), lambda: small(4))
    yield Size("default", lambda: model(config()))


def _parts(config: Any) -> Iterator[Any]:
    """A configuration and those within it: of a text model, a vision model, its backbone."""
    yield config
    for part in vars(config).values():
        if hasattr(part, "to_dict"):
            yield from _parts(part)


# timm and torchvision, at the sizes that their models have


def _timm() -> list[str]:
    """One model of each of timm's modules."""
    try:
        import timm
    except ImportError:
        return []
    return [_smallest(timm.list_models(module=module)) for module in timm.list_modules()]


def _timm_sizes(name: str) -> Iterator[Size]:
    import timm

    yield Size("default", lambda: timm.create_model(name, pretrained=False))


def _torchvision() -> list[str]:
    """One model of each of torchvision's modules."""
    try:
        from torchvision import models
    except ImportError:
        return []
    modules: dict[str, list[str]] = {}
    for name in models.list_models():
        modules.setdefault(models.get_model_builder(name).__module__, []).append(name)
    return [f"torchvision.{_smallest(names)}" for names in modules.values()]


def _torchvision_sizes(name: str) -> Iterator[Size]:
    from torchvision import models

    plain = name.removeprefix("torchvision.")
    backbone = {"weights_backbone": None} if _has_backbone(plain) else {}
    yield Size("default", lambda: models.get_model(plain, weights=None, **backbone))


def _has_backbone(name: str) -> bool:
    """Whether a torchvision model is built around another one, whose weights are asked for."""
    from torchvision import models

    family = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
    return family.startswith(("detection.", "segmentation."))


def _smallest(names: list[str]) -> str:
    """The first by name that says it is small, else the first."""
    return next((n for n in names if any(word in n for word in _LITTLE)), names[0])


_LITTLE = ("nano", "atto", "femto", "pico", "tiny", "_xxs", "_xs", "mini", "small", "lite")
