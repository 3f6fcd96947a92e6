"""What JAX hands to a compiler, for devices that are not here.

JAX lowers a function to StableHLO for any platform, with or without such a device. No list of
operations proves that two devices agree. But an initializer whose floats are converted once,
multiplied once and otherwise only moved leaves a compiler nothing to approximate, to fuse or to
reorder; that is what is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.support.flow import Walk
from tests.support.inexact import Finding

from portinit.initializers.base import Initializer

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def findings(module: Any, dtype: str = "float32") -> list[Finding]:
    """What in a StableHLO module may differ between two devices.

    Args:
        module: the module, as MLIR's Python classes: ``jax.stages.Lowered.compiler_ir()``.
        dtype: the format asked for; float64 within a narrower one is a finding.

    Returns:
        The findings, each once, in the module's order; none is the proof.
    """
    walk = Walk(module, dtype)
    walk.run("main")
    return [*dict.fromkeys(walk.found)]


def lowered(function: Any, arguments: Sequence[Any], platforms: Sequence[str] = PLATFORMS) -> Any:
    """The StableHLO module of a function of JAX arrays, for platforms that need not be here.

    Args:
        function: what ``jax.jit`` takes, or gives.
        arguments: arrays, or ``jax.ShapeDtypeStruct``.
        platforms: names of JAX's: ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``. With several, code
            that depends on the platform is in the module once for each.
    """
    import jax

    jitted = function if hasattr(function, "trace") else jax.jit(function)
    return jitted.trace(*arguments).lower(lowering_platforms=tuple(platforms)).compiler_ir()


def initializer_findings(
    initializer: Initializer,
    shape: Sequence[int],
    dtype: str = "float32",
    platforms: Sequence[str] = PLATFORMS,
) -> list[Finding]:
    """The findings in an initializer's computation; the key is an argument of it.

    An initializer whose values are computed in NumPy (``hosted``) has no computation in JAX.
    float64 and complex128 need JAX's 64-bit mode.

    >>> import portinit
    >>> initializer_findings(portinit.normal(0.5, 0.3), (300, 200), "bfloat16")
    []
    """
    import jax
    import jax.numpy as jnp

    key = jax.ShapeDtypeStruct((2,), jnp.uint32)  # type: ignore[no-untyped-call]
    return findings(lowered(lambda k: initializer(k, shape, dtype), [key], platforms), dtype)
