"""One architecture of the atlas: built, traced, replayed, compared and described."""

from __future__ import annotations

import collections
import math
import re
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from tools.atlas_models import Build, Size, sizes

SEED = 1234
_MOST_NAMED = 12
"""How many names a result lists of each kind."""


def look_at(name: str, library: str = "transformers") -> dict[str, Any]:
    """The result for one architecture, built small if that can be, and else as it stands."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        why = ""
        try:
            for size in sizes(name, library):
                try:
                    size.build()
                except Exception as error:  # not every size suits every model
                    why = _in_one_line(error)
                    continue
                return {"name": name, "library": library, "size": size.name} | look(size)
        except (AttributeError, ImportError) as error:
            why = _in_one_line(error)
        return {"name": name, "library": library, "state": "unbuilt", "why": why}


def look(size: Size) -> dict[str, Any]:
    """The state of one model, its counts, what was lost, its times, and how it starts."""
    import portinit_torch

    model, building = _best_of(3, lambda: _built(size.build))
    try:
        recipe, tracing = _best_of(1, lambda: portinit_torch.trace(size.build))
    except Exception as error:  # whatever stops a trace is what the atlas says of it
        return {"state": "untraced", "why": _in_one_line(error)}
    values, replaying = _best_of(3, lambda: recipe.replay(SEED, strict=False))
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    lost, inexact = recipe.unreplayable(), recipe.inexact()
    states = {name: _state(name, t, values, lost, inexact) for name, t in tensors.items()}
    counts = collections.Counter(states.values())
    worst = [state for state in ("wrong", "lost", "near") if counts[state]]
    return {
        "state": (worst or ["identical"])[0],
        "tensors": len(tensors),
        "elements": sum(tensor.numel() for tensor in tensors.values()),
        "counts": dict(counts),
        "lost": {name: lost[name] for name in _first(states, "lost")},
        "near": {name: list(inexact[name]) for name in _first(states, "near")},
        "wrong": _first(states, "wrong"),
        "seconds": {"build": building, "trace": tracing, "replay": replaying},
        "starts": starts(recipe.rules),
        "by_depth": by_depth(tensors, size.deeper),
    }


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _built(build: Build) -> Any:
    import torch

    torch.manual_seed(SEED)
    return build()


def _best_of(times: int, work: Callable[[], Any]) -> tuple[Any, float]:
    """The result of some work, and the seconds of its fastest run."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - started)
    return result, round(min(seconds), 4)


def _state(
    name: str,
    tensor: Any,
    values: Mapping[str, Any],
    lost: Mapping[str, str],
    inexact: Mapping[str, Any],
) -> str:
    import numpy as np
    import torch

    if name in lost:
        return "lost"
    raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if name in values and np.asarray(values[name]).tobytes() == raw:
        return "identical"
    return "near" if name in inexact else "wrong"


def _first(states: Mapping[str, str], wanted: str) -> list[str]:
    return [name for name, state in states.items() if state == wanted][:_MOST_NAMED]


def starts(rules: Any) -> list[dict[str, Any]]:
    """How a model's tensors start: those of one kind and one initializer together."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for rule in rules:
        initializer = str(rule.initializer)
        what = initializer if len(initializer) <= 160 else f"{initializer[:150]} (shortened)"
        groups.setdefault((_role(rule), what, rule.source), []).append(rule.name)
    return [
        {"role": role, "initializer": what, "source": source, "count": len(names)}
        | {"names": sorted({_without_numbers(name) for name in names})[:4]}
        for (role, what, source), names in groups.items()
    ]


def _role(rule: Any) -> str:
    """What a tensor is to its layer: an embedding, a norm's scale, a linear weight, a bias."""
    if rule.buffer:
        return "buffer"
    last = rule.name.rpartition(".")[2]
    return f"{rule.layer or 'other'} {'bias' if 'bias' in last else 'weight'}"


def _without_numbers(name: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.|$)|^\d+(?=\.)", "*", name)


def by_depth(tensors: Mapping[str, Any], deeper: Build | None) -> list[dict[str, Any]]:
    """The tensors that start with another deviation in a model of twice the layers."""
    if deeper is None:
        return []
    try:
        others = dict(_built(deeper).named_parameters())
    except Exception:  # a list of layers that does not fit the number
        return []
    found: dict[str, list[float]] = {}
    for name, tensor in tensors.items():
        other = others.get(name)
        if other is None or other.shape != tensor.shape or tensor.numel() < 512:
            continue
        if not tensor.is_floating_point() or not float(tensor.detach().float().std()) > 0:
            continue
        ratio = float(other.detach().float().std() / tensor.detach().float().std())
        noise = 6 / math.sqrt(tensor.numel())  # of the ratio's logarithm
        if abs(math.log(ratio)) > max(0.1, noise) if ratio > 0 else True:
            found.setdefault(_without_numbers(name), []).append(ratio)
    return [
        {"name": name, "ratio": round(sum(ratios) / len(ratios), 2), "count": len(ratios)}
        for name, ratios in found.items()
    ]
