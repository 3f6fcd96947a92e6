"""What a run's figures depend on: processor, versions, load."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = ("numpy", "numba", "llvmlite", "torch", "jax", "jaxlib", "flax", "triton", "portinit")


def facts() -> dict[str, Any]:
    """The machine and what is installed; no path and no host name."""
    return {
        "processor": _of_processor("model name") or platform.processor(),
        "family": f"{_of_processor('cpu family')}/{_of_processor('model')}",
        "flags": _of_processor("flags").split(),
        "processors": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def load() -> float | None:
    """How many processes wanted to run in the last minute, on average."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _of_processor(field: str) -> str:
    path = Path("/proc/cpuinfo")
    text = path.read_text("utf-8") if path.exists() else ""
    found = re.search(rf"^{field}\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
