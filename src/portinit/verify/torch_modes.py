"""PyTorch's modes beside the plain call: filling in place, and torch.compile."""

from __future__ import annotations

import importlib
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from portinit.arrays.grids import Grid
from portinit.arrays.layouts import as_layout
from portinit.backends.base import Request
from portinit.backends.registry import backend_of
from portinit.random.words import signed
from portinit.verify.cases import LAYOUTS, Cell, key
from portinit.verify.devices import Device, installed


def filled(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """Tensors filled in place, of every memory format that the shape has."""
    fill_ = importlib.import_module("portinit_torch").fill_
    for cell in cells:
        layout = LAYOUTS[cell.layout]
        yield [
            fill_(tensor, cell.initializer, key=key(), layout=layout)
            for tensor in _targets(device, cell)
        ]


def _targets(device: Device, cell: Cell) -> Iterator[Any]:
    torch, backwards = _torch(), range(len(cell.shape))[::-1]
    what = {"dtype": getattr(torch, cell.dtype), "device": device.native}
    yield torch.empty(cell.shape, **what)
    yield torch.empty(cell.shape[::-1], **what).permute(*backwards)
    if len(cell.shape) == 4:
        yield torch.empty(cell.shape, memory_format=torch.channels_last, **what)


def compiled(device: Device, cells: Sequence[Cell]) -> Iterable[Sequence[Any]]:
    """All cells in one graph that inductor compiles, whose arguments are the key's words.

    The graph is traced without dynamo, which cannot follow Python's integers through portinit.
    """
    torch = _torch()
    trace = importlib.import_module("torch.fx.experimental.proxy_tensor").make_fx
    share = importlib.import_module("torch._functorch.compile_utils").fx_graph_cse
    words = [_word(word, device) for word in key().words]
    graph = trace(lambda *words: [_values(cell, device, words) for cell in cells])(*words)
    graph = torch.fx.GraphModule(graph, share(graph.graph))  # one Threefry for many cells
    torch.compiler.reset()
    # Inductor looks at shared integers anew for each use until it stores them, which it does
    # late for so long a chain: minutes, against seconds.
    options = {"realize_opcount_threshold": 12}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # inductor's, of torch's own functions
        arrays = torch.compile(graph, fullgraph=True, options=options)(*words)
    return [[array] for array in arrays]


def _word(word: int, device: Device) -> Any:
    torch = _torch()
    return torch.tensor([signed(word, 32)], dtype=torch.int32, device=device.native)


def _values(cell: Cell, device: Device, words: Sequence[Any]) -> Any:
    backend = backend_of(None, _torch())
    grid = Grid.whole(cell.shape, as_layout(LAYOUTS[cell.layout]))
    request = Request(backend, (words[0], words[1]), grid, cell.dtype, device.native)
    return backend.values(cell.initializer.planned(grid, cell.dtype), request)


def no_compiler(device: Device) -> str | None:
    """Why torch.compile cannot run: on a CPU it needs a C++ compiler, on a GPU Triton."""
    if device.kind == "cpu":
        names = [os.environ.get("CXX", "g++"), "c++", "clang++"]
        return None if any(map(shutil.which, names)) else "needs a C++ compiler"
    if device.kind == "mps":
        return None
    return None if installed("triton") else "needs triton"


def _torch() -> Any:
    return importlib.import_module("torch")
