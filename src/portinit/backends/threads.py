"""Threads, and machine code where numba is installed."""

from __future__ import annotations

import glob
import hashlib
import importlib
import os
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")

_SOON = 0.005  # seconds


def find_numba() -> Any:
    """The module numba, or None where it is not installed or compiles nothing."""
    try:
        numba = importlib.import_module("numba")
    except ImportError:
        return None
    if numba.config.DISABLE_JIT:
        warn_of_arrays("numba's NUMBA_DISABLE_JIT is set")
        return None
    return numba


@cache
def warn_of_arrays(reason: str) -> None:
    """Say once why there is no machine code, where numba is installed to have it."""
    warnings.warn(
        f"portinit computes in array operations, several times slower: {reason}. "
        "The values are the same.",
        RuntimeWarning,
        stacklevel=2,
    )


def thread_count() -> int:
    """How many threads numba is set to use, once it is loaded; else, how many processors."""
    numba = sys.modules.get("numba")
    if numba is not None:
        count: int = numba.get_num_threads()
        return count
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[_T], _R], items: Iterable[_T], threads: int) -> list[_R]:
    """Map a function over items on several threads."""
    if threads == 1:
        return [function(item) for item in items]
    pool = _pool(threads)
    items, futures = list(items), []
    try:
        futures = [pool.submit(function, item) for item in items]
    except RuntimeError:  # the interpreter is shutting down, and starts no thread any more
        return [function(item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:  # after an error nothing goes on
        for future in futures:
            future.cancel()
        wait(futures)
        _idle.append((threads, time.monotonic(), pool))


_idle: deque[tuple[int, float, ThreadPoolExecutor]] = deque()
"""Pools that have done their work: of how many threads, and when."""


def _pool(threads: int) -> ThreadPoolExecutor:
    """The threads of the last call, if that was just now; else new ones.

    To start some takes as long as a fill of 2^18 elements. But those that have slept are woken
    badly in virtual machines: Linux takes halted processors for busy ones there, and has all
    threads wait for the one that runs.
    """
    with suppress(IndexError):
        while True:
            count, used, pool = _idle.pop()
            if count == threads and time.monotonic() - used < _SOON:
                return pool
    return ThreadPoolExecutor(threads)


if hasattr(os, "register_at_fork"):  # a process that was forked has the pools, but not the threads
    os.register_at_fork(after_in_child=_idle.clear)


def compile_all(
    functions: Iterable[FunctionType], known: dict[str, Any], depends: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The functions compiled, by name, and ``known`` before them; later ones may call earlier.

    What was kept on disk is compiled anew when the functions' own files change, or the files that
    ``known`` depends on.
    """
    functions = list(functions)
    files = {*depends, *(function.__code__.co_filename for function in functions)}
    stamp = _fingerprint(tuple(sorted(files)))
    machine = dict(known)
    for function in functions:
        machine[function.__name__] = _compile(function, machine, stamp)
    return machine


def _compile(function: FunctionType, machine: dict[str, Any], stamp: str) -> Any:
    """The function, calling machine code, compiled; kept on disk where that can be."""
    numba = find_numba()
    rebound = FunctionType(
        function.__code__, function.__globals__ | machine, function.__name__, function.__defaults__
    )
    # numba finds what it kept by this name, and looks at no file but the function's own.
    rebound.__qualname__ = f"{function.__name__}_{stamp}"
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(rebound)
    except RuntimeError:  # no place to keep it
        return numba.njit(nogil=True, error_model="numpy")(rebound)


def discard_kept(function: Any) -> None:
    """Delete what numba kept on disk of a function that :func:`compile_all` compiled."""
    names = f"*{glob.escape(function.py_func.__qualname__)}-*.nb[ic]"
    for file in Path(function.stats.cache_path or os.devnull).glob(names):
        with suppress(OSError):
            file.unlink()


@cache
def _fingerprint(files: tuple[str, ...]) -> str:
    contents = (Path(file).read_bytes() for file in (__file__, *files))
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


@cache
def intrinsics() -> tuple[Any, Any]:
    """(fuse, reinterpret): a fused multiply-add, and the bits of one type read as another."""
    extending = importlib.import_module("numba.extending")

    def fuse(_: Any, x: Any, y: Any, z: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.fma(*values)

        return x(x, y, z), code

    def reinterpret(_: Any, x: Any, like: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], context.get_value_type(like))

        return like(x, like), code

    return extending.intrinsic(fuse), extending.intrinsic(reinterpret)
