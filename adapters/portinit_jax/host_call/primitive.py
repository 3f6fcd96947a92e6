"""Kernels within compiled programs: on the host XLA calls them, elsewhere it compiles.

XLA's own code for CPUs takes several times as long, and to compile it takes longer than to run
it. The bits are the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from numpy.typing import NDArray

from portinit.arrays.dtypes import float_format
from portinit.arrays.grids import Axis, Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.backends.base import Request
from portinit.backends.kernels import filling
from portinit.backends.numpy import NUMPY
from portinit.backends.threads import thread_count
from portinit.sampling.transform import Transform
from portinit_jax.host_call import xla_ffi

_TARGET = "portinit_fill"
_WORTH_A_CALL = 1 << 12  # elements: `portinit verify` compares fewer, to have XLA's own code

fill_p = Primitive(_TARGET)


def kernel_values(request: Request, transform: Transform | None, stream: int) -> Any:
    """The values of a request in a traced program; None where XLA had better fuse them.

    That is so for few elements; for words, and for blocks of packed parameters, of which a call
    would make arrays in between; and on meshes, where a device's part begins is known too late.
    """
    grid = request.grid
    if type(transform) is not Transform or transform.log2:
        return None
    if request.dtype not in filling.DTYPES or type(grid) is not Grid:
        return None
    if not _WORTH_A_CALL <= grid.size <= math.prod(grid.shape):
        return None
    if not jax.sharding.get_abstract_mesh().empty:
        return None
    high, low = (jnp.asarray(word, jnp.int32) for word in request.words)
    form = request._replace(words=(0, 0))  # the key is in the operands
    return fill_p.bind(high, low, request=form, transform=transform, stream=stream)  # type: ignore[no-untyped-call]


def _by_arrays(high: Any, low: Any, *, request: Request, transform: Transform, stream: int) -> Any:
    backend, fmt = request.backend, float_format(request.dtype)
    request = request._replace(words=(high, low))
    return backend.cast(backend.draw_by_arrays(transform, fmt, request, stream), request.dtype)


def _abstract(*_: Any, request: Request, transform: Transform, stream: int) -> Any:
    return jax.core.ShapedArray(request.grid.array_shape, jnp.dtype(request.dtype))


def _batched(words: Any, axes: Any, **form: Any) -> tuple[Any, int]:
    return jax.vmap(partial(_by_arrays, **form), axes)(*words), 0


def _lowered(context: Any, *words: Any, **form: Any) -> Any:
    here = runs_here(context.module_context, form["request"].grid)
    if here and xla_ffi.register(_TARGET, _fill):
        return jax.ffi.ffi_lowering(_TARGET)(context, *words, form=_written(**form))
    return mlir.lower_fun(_by_arrays, multiple_results=False)(context, *words, **form)


def runs_here(module: Any, grid: Grid) -> bool:
    """Whether a fill is to be called by the program of a module that is being lowered.

    It has to run in this process: what is exported may meet a machine without portinit. And on one
    device, the host: XLA does not divide calls among devices.
    """
    try:
        export = module.lowering_parameters.for_export
        place = tuple(module.platforms), module.axis_context.num_devices
    except AttributeError:  # of other axes, or in a version of JAX that says it otherwise
        return False
    return not export and place == (("cpu",), 1) and filling.is_ready(grid)


def _written(request: Request, transform: Transform, stream: int) -> str:
    """The call's static arguments; JAX may store them with the compiled program."""
    grid = request.grid
    axes = [(a.indices.start, a.indices.stop, a.indices.step, a.of, a.weight) for a in grid.axes]
    place = {"shape": grid.shape, "axes": axes, "strides": grid.strides, "offset": grid.offset}
    return json.dumps({"grid": place, "transform": asdict(transform), "stream": stream})


@lru_cache(maxsize=4096)
def _read(text: str) -> tuple[Grid, Transform, int]:
    data = json.loads(text)
    place, transform = data["grid"], data["transform"]
    axes = tuple(Axis(range(*indices), of, weight) for *indices, of, weight in place["axes"])
    shape, strides = tuple(place["shape"]), tuple(place["strides"])
    grid = Grid(shape, axes, strides, LAYOUTS["torch"], place["offset"])
    if transform["span"]:
        transform["span"] = tuple(transform["span"])
    return grid, Transform(**transform), data["stream"]


def _fill(text: str, words: list[int], out: NDArray[Any]) -> None:
    grid, transform, stream = _read(text)
    high, low = (word & 0xFFFFFFFF for word in words)
    if not filling.fill(out, (high, low), grid, transform, stream, thread_count()):
        dtype = {4: "float32", 2: "bfloat16"}[out.itemsize]
        request = Request(NUMPY, (high, low), grid, dtype)
        values = NUMPY.draw_by_arrays(transform, float_format(dtype), request, stream)
        out[...] = NUMPY.cast(values, dtype).view(out.dtype)


fill_p.def_impl(_by_arrays)  # type: ignore[no-untyped-call]
fill_p.def_abstract_eval(_abstract)  # type: ignore[no-untyped-call]
batching.primitive_batchers[fill_p] = _batched
mlir.register_lowering(fill_p, _lowered)
xla_ffi.register(_TARGET, _fill)  # for programs that another process compiled and serialized
