"""What is compared, as data: no framework is imported to list it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from benchmarks.case import Case, Options

NORMALS = ("normal", "truncated_normal", "he_normal", "glorot_normal", "lecun_normal")
UNIFORMS = ("uniform", "he_uniform", "glorot_uniform", "lecun_uniform")
_ITEMSIZE = {"float32": 4, "bfloat16": 2}


def numpy_cases(options: Options) -> Iterator[Case]:
    """NumPy, with numba and without, and by size."""
    size = options.side**2
    for group in ("numpy", "numpy-plain"):
        for law in ("normal", "uniform"):
            for memory in ("new", "reused"):
                arguments = {"law": law, "size": size, "memory": memory}
                yield Case(f"{group}/{law}/{memory} memory", "of_numpy:fill", size, arguments)
    for law in ("normal", "uniform"):
        for n in options.sizes:
            arguments = {"law": law, "size": n, "memory": "new"}
            yield Case(f"numpy-sizes/{law}/{n:.0e}", "of_numpy:fill", n, arguments)


_FILLS: dict[str, tuple[Any, ...]] = {
    "normal_": (),
    "uniform_": (),
    "kaiming_normal_": (),
    "kaiming_uniform_": (),
    "xavier_normal_": (),
    "xavier_uniform_": (),
    "trunc_normal_": (),
    "sparse_": (0.5,),
    "orthogonal_": (),
    "constant_": (0.5,),
    "zeros_": (),
    "eye_": (),
}
KEYLESS = ("constant_", "zeros_", "eye_")


def torch_cases(options: Options) -> Iterator[Case]:
    """torch.nn.init's functions: large, small, in three layouts, and by size."""
    for dtype in ("float32", "bfloat16"):
        for name in _FILLS:
            if (name, dtype) != ("orthogonal_", "bfloat16"):  # torch has no such QR
                side = min(options.side, 1024) if name == "orthogonal_" else options.side
                yield _torch(f"torch/{name}/{dtype}", options, name, (side, side), dtype=dtype)
    for loaded in (False, True):
        for name in _FILLS:
            for keyed in (False,) if name in KEYLESS else (True, False):
                words = "key" if keyed else "no key", "loaded" if loaded else "not loaded"
                label = f"torch-small/{name}/{words[0]}, numba {words[1]}"
                yield _torch(label, options, name, (24, 32), keyed=keyed, loaded=loaded)
    yield from _torch_layouts(options)
    for name in ("normal_", "uniform_"):
        for n in options.sizes:
            yield _torch(f"torch-sizes/{name}/{n:.0e}", options, name, (n,))


def _torch_layouts(options: Options) -> Iterator[Case]:
    matrix, images = (options.side, options.side), (options.side // 4, options.side // 4, 4, 4)
    for name in ("kaiming_normal_", "kaiming_uniform_"):
        for layout in ("contiguous", "transposed"):
            yield _torch(f"torch-layouts/{name}/{layout}", options, name, matrix, layout=layout)
        for layout in ("contiguous", "channels_last"):
            label = f"torch-layouts/{name}/4 x 4 kernels, {layout}"
            yield _torch(label, options, name, images, layout=layout)


def _torch(
    label: str, options: Options, name: str, shape: tuple[int, ...], **arguments: Any
) -> Case:
    arguments |= {"name": name, "shape": shape, "arguments": _FILLS[name], "device": options.device}
    itemsize = _ITEMSIZE[arguments.get("dtype", "float32")]
    return Case(label, "of_torch:fill", math.prod(shape), arguments, itemsize)


def jax_cases(options: Options) -> Iterator[Case]:
    """jax.nn.initializers' under jit: with both memories, in Flax's layouts, and by size."""
    scaling = (1.0, "fan_avg", "uniform")
    names = {**dict.fromkeys((*NORMALS, *UNIFORMS), ()), "variance_scaling": scaling}
    for name, arguments in {**names, "orthogonal": ()}.items():
        side = min(options.side, 1024) if name == "orthogonal" else options.side
        for memory in ("new", "reused"):
            label = f"jax/{name}/{memory} memory"
            yield _jax(label, name, (side, side), memory, arguments=arguments)
        form = {"name": name, "shape": (side, side), "arguments": arguments}
        yield Case(f"jax/{name}/called eagerly", "of_jax:call", side * side, form)
    kernels = {"dense": (options.side,) * 2, "conv": (4, 4, options.side // 4, options.side // 4)}
    for kind, shape in kernels.items():
        for layout in ("flax", "torch"):
            label = f"jax-layouts/he_normal/{kind}, {layout}'s order"
            yield _jax(label, "he_normal", shape, "reused", layout=layout)
    for name in ("normal", "uniform"):
        for n in options.sizes:
            yield _jax(f"jax-sizes/{name}/{n:.0e}", name, (n,), "new")


def _jax(label: str, name: str, shape: tuple[int, ...], memory: str, **more: Any) -> Case:
    arguments = {"name": name, "shape": shape, "memory": memory, **more}
    return Case(label, "of_jax:draw", math.prod(shape), arguments)


def process_cases(options: Options) -> Iterator[Case]:
    """What is timed in fresh interpreters: imports and whole models."""
    yield Case("import/portinit after numpy, against numpy", "of_processes:imports", 0)
    for compiled, code in ((True, "code kept on disk"), (False, "nothing compiled yet")):
        arguments: dict[str, Any] = {"size": 1 << 20, "compiled": compiled}
        label = f"import/the first 2^20 normals, {code}"
        yield Case(label, "of_processes:first_fill", 1 << 20, arguments)
    widths = (16,) if options.quick else (64, 512)
    for width in widths:
        for way in ("initialize, eager", "initialize, jitted", "init, eager", "init, jitted"):
            arguments = {"way": way, "width": width, "layers": 2 if options.quick else 24}
            label = f"flax-model/{way}/width {width}"
            yield Case(label, "of_processes:flax_model", 0, arguments)
    sizes = {"width": 16, "layers": 2} if options.quick else {"width": 1280, "layers": 48}
    for way, dtype in (("gpt2", "float32"), ("gpt2", "bfloat16"), ("defaults", "float32")):
        for memory in ("new", "reused"):
            arguments = {"way": way, "memory": memory, "dtype": dtype, **sizes}
            label = f"torch-model/{way}/{dtype}, {memory} memory"
            yield Case(label, "of_processes:torch_model", 0, arguments)


def all_cases(options: Options) -> list[Case]:
    """Every case there is for a device; on a GPU those of torch and JAX alone."""
    cases = [*torch_cases(options), *jax_cases(options)]
    if options.device == "cpu":
        return [*numpy_cases(options), *cases, *process_cases(options)]
    return [case for case in cases if "not loaded" not in case.name]
