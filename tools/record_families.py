"""Record how model families start, by traces of their reference code, for the tests of recipes.

    python tools/record_families.py --dit DiT --latent-diffusion stable-diffusion

It needs torchvision, timm, diffusers, and clones of github.com/facebookresearch/DiT and
github.com/CompVis/stable-diffusion. Of every parameter it writes the description that a recipe is
given, and the distribution that the trace finds; of the references' code it writes nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import lzma
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
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


def cloned(dit: Path, latent_diffusion: Path) -> Iterator[tuple[str, Path, Build]]:
    """Models of code that is in no library, out of clones of it."""
    sys.path[:0] = [str(dit), str(latent_diffusion)]
    sizes = {"input_size": 8, "hidden_size": 32, "depth": 2, "num_heads": 4, "num_classes": 10}
    yield "DiT", dit, lambda: importlib.import_module("models").DiT(**sizes)
    unet = importlib.import_module("ldm.modules.diffusionmodules.openaimodel").UNetModel
    yield (
        "Stable Diffusion UNetModel",
        latent_diffusion,
        lambda: unet(
            image_size=8,
            in_channels=4,
            out_channels=4,
            model_channels=32,
            num_res_blocks=1,
            attention_resolutions=(1,),
            channel_mult=(1, 2),
            num_heads=4,
            use_spatial_transformer=True,
            context_dim=24,
            use_checkpoint=False,
            legacy=False,
        ),
    )


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
    parser.add_argument("--dit", type=Path, required=True, help="a clone of facebookresearch/DiT")
    parser.add_argument("--latent-diffusion", type=Path, required=True, help="a clone of CompVis'")
    chosen = parser.parse_args()
    for library in {library for library, _ in PUBLISHED.values()}:
        importlib.import_module(library)  # outside of any trace
    models = {
        name: {"version": f"{library} {metadata.version(library)}", "parameters": recorded(build)}
        for name, (library, build) in PUBLISHED.items()
    }
    for name, clone, build in cloned(chosen.dit, chosen.latent_diffusion):
        models[name] = {"version": commit(clone), "parameters": recorded(build)}
    found = {"torch": torch.__version__, "models": models}
    write_atomically(RECORD, lzma.compress(json.dumps(found).encode(), preset=9))
    for name, model in models.items():
        print(f"{name}: {len(model['parameters'])} parameters, {model['version']}")


if __name__ == "__main__":
    main()
