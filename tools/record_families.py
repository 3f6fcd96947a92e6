"""Record how models start, by traces of the families' and schemes' reference code, for the tests.

    python tools/record_families.py CLONES

It needs torchvision, timm, diffusers, what the references import, and in the folder CLONES clones
of what ``CLONED`` names, each called as on GitHub. Of every parameter it writes the description
that a recipe is given, and the distribution that the trace finds; of the references' code nothing.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import lzma
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import portinit_torch
from portinit.cli.files import write_atomically
from portinit.initializers.assigned import assigned

RECORD = Path(__file__).parents[1] / "tests" / "golden" / "families.json.xz"
Build = Callable[[], Any]


def torchvision(name: str, **options: Any) -> Build:
    return lambda: importlib.import_module("torchvision.models").get_model(name, **options)


def timm(name: str, **options: Any) -> Build:
    return lambda: importlib.import_module("timm").create_model(name, **options)


def diffusers(name: str, **options: Any) -> Build:
    return lambda: getattr(importlib.import_module("diffusers"), name)(**options)


PUBLISHED: dict[str, tuple[str, Build]] = {
    "torchvision resnet18": ("torchvision", torchvision("resnet18", num_classes=10)),
    "torchvision resnet18, zero": (
        "torchvision",
        torchvision("resnet18", num_classes=10, zero_init_residual=True),
    ),
    "torchvision resnet50, zero": (
        "torchvision",
        torchvision("resnet50", num_classes=10, zero_init_residual=True),
    ),
    "torchvision efficientnet_b0": ("torchvision", torchvision("efficientnet_b0", num_classes=10)),
    "torchvision efficientnet_v2_s": (
        "torchvision",
        torchvision("efficientnet_v2_s", num_classes=10),
    ),
    "timm efficientnet_b0": ("timm", timm("efficientnet_b0", num_classes=10)),
    "timm efficientnetv2_rw_t": ("timm", timm("efficientnetv2_rw_t", num_classes=10)),
    "timm vit_tiny": (
        "timm",
        timm("vit_tiny_patch16_224", num_classes=10, depth=2, embed_dim=48, num_heads=3),
    ),
    "diffusers DiTTransformer2DModel": (
        "diffusers",
        diffusers(
            "DiTTransformer2DModel",
            num_attention_heads=4,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            norm_num_groups=8,
            num_embeds_ada_norm=10,
        ),
    ),
    "diffusers UNet2DConditionModel": (
        "diffusers",
        diffusers(
            "UNet2DConditionModel",
            sample_size=8,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=24,
            attention_head_dim=4,
            layers_per_block=1,
            norm_num_groups=8,
        ),
    ),
}
"""Models of libraries: the library, and what builds one."""


def loaded(file: Path) -> Any:
    """A module out of a file, whose imports are found from its clone."""
    clone = next(parent for parent in file.parents if (parent / ".git").exists())
    sys.path.insert(0, str(clone))
    try:
        spec = importlib.util.spec_from_file_location(f"reference_{clone.name}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(clone))


UNET = {
    "image_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": 1,
    "attention_resolutions": (1,),
    "channel_mult": (1, 2),
    "num_heads": 4,
    "use_spatial_transformer": True,
    "context_dim": 24,
    "use_checkpoint": False,
    "legacy": False,
}


def deepnorm(code: Any, side: str, encoder_layers: int, decoder_layers: int) -> Any:
    """Torchscale's encoder or decoder with DeepNorm, alone or beside the other."""
    config = importlib.import_module("torchscale.architecture.config")
    sizes = {"embed_dim": 32, "ffn_embed_dim": 48, "attention_heads": 4}
    made = getattr(config, f"{side.title()}Config")(
        deepnorm=True,
        vocab_size=99,
        no_output_layer=True,
        **{f"{side}_{key}": size for key, size in sizes.items()},
    )
    made.encoder_layers, made.decoder_layers = encoder_layers, decoder_layers
    both = bool(encoder_layers and decoder_layers)
    return getattr(code, side.title())(made, is_encoder_decoder=both)


CLONED: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "DiT": (
        "facebookresearch/DiT",
        "models.py",
        lambda code: code.DiT(input_size=8, hidden_size=32, depth=2, num_heads=4, num_classes=10),
    ),
    "Stable Diffusion UNetModel": (
        "CompVis/stable-diffusion",
        "ldm/modules/diffusionmodules/openaimodel.py",
        lambda code: code.UNetModel(**UNET),
    ),
    "Fixup resnet18": (
        "hongyi-zhang/Fixup",
        "imagenet/models/fixup_resnet_imagenet.py",
        lambda code: code.fixup_resnet18(num_classes=10),
    ),
    "Fixup resnet50": (
        "hongyi-zhang/Fixup",
        "imagenet/models/fixup_resnet_imagenet.py",
        lambda code: code.fixup_resnet50(num_classes=10),
    ),
    "FINER": (
        "liuzhen0212/FINER",
        "models.py",
        lambda code: code.Finer(2, 64, 3, 3, first_bias_scale=5.0),
    ),
    "SIREN": ("liuzhen0212/FINER", "models.py", lambda code: code.Siren(2, 64, 3, 3)),
    **{
        f"torchscale {side} of {layers}": (
            "microsoft/torchscale",
            f"torchscale/architecture/{side}.py",
            lambda code, side=side, layers=layers: deepnorm(code, side, *layers),
        )
        for side, layers in (
            ("encoder", (6, 0)),
            ("decoder", (0, 6)),
            ("encoder", (6, 3)),
            ("decoder", (6, 3)),
        )
    },
    "LoRA": ("microsoft/LoRA", "loralib/layers.py", lambda code: code.Linear(32, 64, r=4)),
}
"""Models of code that is in no library: its repository, the file, and what builds one of it."""


def recorded(build: Build) -> list[dict[str, Any]]:
    """Each parameter as recipes are told of it, and its mean, its std, or its values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        rules = {rule.name: rule for rule in portinit_torch.trace(build).rules}
        parameters = portinit_torch.parameters(build())
    rows = []
    for parameter in parameters:
        initializer = rules[parameter.name].initializer
        law = initializer.distribution_of(parameter.shape, layout="torch")
        told = {k: v for k, v in asdict(parameter).items() if v not in (None, ())}
        if law is not None:
            rows.append(told | {"law": type(law).__name__, "mean": law.mean, "std": law.std})
        elif isinstance(initializer, assigned):
            rows.append(told | {"values": initializer.array().ravel().tolist()})
        else:
            raise ValueError(f"{parameter.name} has no distribution: {initializer}")
    return rows


def commit(clone: Path) -> str:
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("clones", type=Path, help="the folder of the clones")
    clones = parser.parse_args().clones
    for library in {library for library, _ in PUBLISHED.values()}:
        importlib.import_module(library)  # outside of any trace
    models = {
        name: {"version": f"{library} {metadata.version(library)}", "parameters": recorded(build)}
        for name, (library, build) in PUBLISHED.items()
    }
    for name, (repository, file, build_of) in CLONED.items():
        clone = clones / repository.partition("/")[2]
        code = loaded(clone / file)
        models[name] = {
            "version": f"{repository} {commit(clone)}",
            "parameters": recorded(lambda build=build_of, code=code: build(code)),
        }
    found = {"torch": torch.__version__, "models": models}
    write_atomically(RECORD, lzma.compress(json.dumps(found).encode(), preset=9))
    for name, model in models.items():
        print(f"{name}: {len(model['parameters'])} parameters, {model['version']}")


if __name__ == "__main__":
    main()
