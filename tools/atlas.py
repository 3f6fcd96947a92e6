"""An atlas of how real models start: build, trace, replay and compare what transformers offers.

    python tools/atlas.py --sample 60 --seed 20261129 --out atlas.json --page atlas.md
    python tools/atlas.py --only BertModel GPT2Model --out atlas.json

Each architecture is built small, in a process of its own with limits of time and memory. For each
the JSON has what came of it, how many of its tensors are PyTorch's bit for bit, what a trace could
not carry, the seconds that construction, trace and replay took, and the initializers it uses.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SMALL: dict[str, Any] = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "embed_dim": 32, "dim": 32,
    "intermediate_size": 48, "ffn_dim": 48, "d_ff": 48, "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48, "num_hidden_layers": 2, "n_layer": 2, "num_layers": 2,
    "encoder_layers": 2, "decoder_layers": 2, "num_decoder_layers": 2, "num_attention_heads": 4,
    "n_head": 4, "num_heads": 4, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 99, "max_position_embeddings": 64,
    "n_positions": 64, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
"""Sizes of a small model, for the attributes that a configuration has."""

STATES = ("identical", "near", "lost", "wrong", "untraced", "unbuilt")


def architectures() -> dict[str, str]:
    """The names of transformers' base models, and of their configurations' classes."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    found: dict[str, str] = {}
    for kind, models in MODEL_MAPPING_NAMES.items():
        for model in models if isinstance(models, tuple) else (models,):
            if kind in CONFIG_MAPPING_NAMES:
                found.setdefault(model, CONFIG_MAPPING_NAMES[kind])
    return found


def builders(config: type, model: type) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Ways to build a model: small, and as its configuration stands."""

    def small() -> Any:
        made = config()
        for part in (made, *_parts(made)):
            for name, value in SMALL.items():
                if isinstance(getattr(part, name, None), int):
                    setattr(part, name, value)
        return model(made)

    yield "small", small
    yield "default", lambda: model(config())


def _parts(config: Any) -> list[Any]:
    """The configurations within a configuration, of a text or a vision model."""
    return [part for part in vars(config).values() if hasattr(part, "to_dict")]


def look(build: Callable[[], Any], seed: int = 1234) -> dict[str, Any]:
    """What comes of one model: its state, its counts, and what was lost."""
    import numpy as np
    import torch

    import portinit_torch

    torch.manual_seed(seed)
    started = time.perf_counter()
    model = build()
    built = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            recipe = portinit_torch.trace(build)
        except Exception as error:  # whatever stops a trace is what the atlas says of it
            return {"state": "untraced", "why": f"{type(error).__name__}: {error}"[:300]}
        traced = time.perf_counter()
        values = recipe.replay(seed, strict=False)
    replayed = time.perf_counter()
    lost, inexact = recipe.unreplayable(), recipe.inexact()
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    counts = collections.Counter[str]()
    wrong = []
    for name, tensor in tensors.items():
        if name in lost:
            counts["lost"] += 1
            continue
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        if name in values and np.asarray(values[name]).tobytes() == raw:
            counts["identical"] += 1
        elif name in inexact:
            counts["near"] += 1
        else:
            counts["wrong"] += 1
            wrong.append(name)
    state = next(
        state
        for state in ("wrong", "lost", "near", "identical")
        if counts[state] or state == "identical"
    )
    used = collections.Counter(str(rule.initializer).partition("(")[0] for rule in recipe.rules)
    return {
        "state": state,
        "tensors": len(tensors),
        "counts": dict(counts),
        "lost": dict(list(lost.items())[:8]),
        "wrong": wrong[:8],
        "seconds": {
            "build": round(built - started, 4),
            "trace": round(traced - built, 4),
            "replay": round(replayed - traced, 4),
        },
        "initializers": dict(used.most_common()),
    }


def look_at(name: str) -> dict[str, Any]:
    """What comes of one architecture, built small if that can be, and else as it stands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _look_at(name)


def _look_at(name: str) -> dict[str, Any]:
    import transformers

    why = ""
    try:
        config, model = getattr(transformers, architectures()[name]), getattr(transformers, name)
    except (AttributeError, ImportError) as error:
        return {"name": name, "state": "unbuilt", "why": str(error)[:300]}
    for size, build in builders(config, model):
        try:
            build()
        except Exception as error:  # not every size suits every model
            why = f"{type(error).__name__}: {error}"[:300]
            continue
        return {"name": name, "size": size, **look(build)}
    return {"name": name, "state": "unbuilt", "why": why}


def in_a_process(name: str, seconds: float, gigabytes: float) -> dict[str, Any]:
    """The same, in a process of its own."""
    limit = ["--gigabytes", str(gigabytes)]
    command: list[str] = [sys.executable, __file__, "--one", name, *limit]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"name": name, "state": "unbuilt", "why": f"more than {seconds:g} seconds"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        last = (done.stderr.strip().splitlines() or ["nothing was printed"])[-1]
        return {"name": name, "state": "unbuilt", "why": f"exit {done.returncode}: {last}"[:300]}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def page(results: list[dict[str, Any]]) -> str:
    """The table as a page."""
    states = collections.Counter(result["state"] for result in results)
    lines = [
        "# Atlas",
        "",
        "How the models of transformers start, and whether a replay has it.",
        "",
    ]
    lines += ["| state | models |", "|---|---|", *(f"| {s} | {states[s]} |" for s in STATES), ""]
    lines += ["| model | state | tensors | initializers |", "|---|---|---|---|"]
    for result in sorted(results, key=lambda result: str(result["name"])):
        used = ", ".join(list(result.get("initializers", {}))[:4]) or result.get("why", "")[:60]
        cells = (result["name"], result["state"], result.get("tensors", ""), used.replace("|", "/"))
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of models; all by default")
    parser.add_argument("--sample", type=int, help="as many of them, by chance")
    parser.add_argument("--seed", type=int, default=0, help="of the sample: a date")
    parser.add_argument("--seconds", type=float, default=120, help="for each model")
    parser.add_argument("--gigabytes", type=float, default=8, help="of address space for each")
    parser.add_argument("--out", type=Path, default=Path("atlas.json"))
    parser.add_argument("--page", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        size = int(given.gigabytes * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        print(json.dumps(look_at(given.one)), flush=True)
        return
    names = given.only or sorted(architectures())
    if given.sample:
        names = sorted(random.Random(given.seed).sample(names, min(given.sample, len(names))))
    results = []
    for name in names:
        results.append(in_a_process(name, given.seconds, given.gigabytes))
        print(f"{results[-1]['state']:10} {name} {results[-1].get('why', '')}", flush=True)
        given.out.write_text(json.dumps(results, indent=1) + "\n")
    if given.page:
        given.page.write_text(page(results))
    if any(result["state"] == "wrong" for result in results):
        sys.exit("values were wrong in silence: see " + str(given.out))


if __name__ == "__main__":
    main()
