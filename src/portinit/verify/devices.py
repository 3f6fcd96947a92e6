"""The frameworks and devices that are here, found at run time."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

FRAMEWORKS = (
    "numpy",
    "array_api_strict",
    "torch",
    "jax",
    "cupy",
    "keras",
    "mlx.core",
    "equinox",
    "haiku",
)
"""The modules of the frameworks."""


@dataclass(frozen=True)
class Device:
    """A device as one framework sees it.

    Attributes:
        framework: the framework's module.
        name: ``"cpu"``, ``"cuda:0"``, ``"mps"``, ``"tpu:0"``.
        native: the framework's own device.
    """

    framework: str
    name: str
    native: Any = field(default=None, compare=False)

    @property
    def kind(self) -> str:
        """The name without its number."""
        return self.name.partition(":")[0]


def absent() -> list[str]:
    """The frameworks that are not installed, and so not tested."""
    return [name for name in FRAMEWORKS if not installed(name)]


def installed(name: str) -> bool:
    """Whether a module can be found."""
    try:
        return importlib.util.find_spec(name) is not None
    except ImportError:
        return False


def found() -> list[Device]:
    """Every device of every framework that is installed."""
    missing = absent()
    return [
        Device(name, *device)
        for name in FRAMEWORKS
        if name not in missing
        for device in _FINDERS.get(name, _host)()
    ]


def chosen(wanted: Sequence[str] | None) -> list[Device]:
    """The devices of these names or kinds, or all of them.

    Raises:
        ValueError: a name that no framework here has a device of.
    """
    here = found()
    if wanted is None:
        return here
    for name in wanted:
        if not any(name in (device.name, device.kind) for device in here):
            names = ", ".join(sorted({device.name for device in here}))
            raise ValueError(f"a device must be one of those here, {names}; got {name!r}")
    return [device for device in here if {device.name, device.kind} & {*wanted}]


_Found = list[tuple[str, Any]]


def _host() -> _Found:
    return [("cpu", None)]


def _torch_devices() -> _Found:
    torch: Any = importlib.import_module("torch")
    names = ["cpu"]
    for kind in ("cuda", "xpu"):
        module = getattr(torch, kind, None)
        if module is not None and module.is_available():
            names += [f"{kind}:{number}" for number in range(module.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [(name, torch.device(name)) for name in names]


def _jax_devices() -> _Found:
    jax: Any = importlib.import_module("jax")
    devices = list(jax.devices("cpu"))[:1]
    devices += [device for device in jax.devices() if device.platform != "cpu"]
    return [(_jax_name(device), device) for device in devices]


def _jax_name(device: Any) -> str:
    if device.platform == "cpu":
        return "cpu"
    version = str(getattr(device.client, "platform_version", "")).lower()
    kind = {"gpu": "rocm" if "rocm" in version else "cuda"}.get(device.platform, device.platform)
    return f"{kind}:{device.id}"


def _cupy_devices() -> _Found:
    cupy: Any = importlib.import_module("cupy")
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError:  # no driver, or none that is new enough
        return []
    return [(f"cuda:{number}", cupy.cuda.Device(number)) for number in range(count)]


_FINDERS: dict[str, Callable[[], _Found]] = {
    "torch": _torch_devices,
    "jax": _jax_devices,
    "cupy": _cupy_devices,
}
