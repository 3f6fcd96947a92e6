"""The names of a module's tensors: without wrappers, and with pipeline stages' prefixes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from torch import nn
from torch.optim.swa_utils import AveragedModel

# torch.compile's, activation checkpointing's and FSDP1's own attribute for what they wrap.
_WRAPPED = {"_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}
_AROUND_MODULE = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def plain_name(module: nn.Module, name: str) -> str:
    """A parameter's name without the parts that wrappers add to it.

    >>> plain_name(nn.DataParallel(nn.Linear(2, 2)), "module.weight")
    'weight'
    """
    kept: list[str] = []
    owner: object = module
    for part in name.split("."):
        wrapper = part == "module" and isinstance(owner, _AROUND_MODULE)
        if part not in _WRAPPED and not wrapper:
            kept.append(part)
        owner = getattr(owner, part, None)
    return ".".join(kept)


def renamed(name: str, names: Mapping[str, str]) -> str:
    """A name with the longest of its prefixes that ``names`` has replaced.

    >>> renamed("layers.0.fc.weight", {"layers.0": "layers.16"})
    'layers.16.fc.weight'
    """
    if not names:
        return name
    prefix = next((prefix for prefix in _prefixes(name) if prefix in names), None)
    if prefix is None:
        return name
    rest = name[len(prefix) :].lstrip(".")
    return ".".join(part for part in (names[prefix], rest) if part)


def _prefixes(name: str) -> list[str]:
    """A name's beginnings at dots, longest first: itself, and at last nothing."""
    path = name.split(".")
    return [".".join(path[:end]) for end in range(len(path), -1, -1)]


def unfit_names(found: Sequence[str], names: Mapping[str, str]) -> Iterator[str]:
    """A line for each entry of ``names`` that serves no tensor, or makes two tensors one."""
    known = {prefix for name in found for prefix in _prefixes(name)}
    for prefix in names:
        if prefix not in known:
            yield f"{prefix}: in names, but nothing in the module is called so"
    counts = Counter(renamed(name, names) for name in found)
    for name, count in counts.items():
        if count > 1:
            yield f"{name}: {count} tensors of the module would have this name"
