"""Where numba cannot give machine code, array operations give the same values, and it is said."""

import hashlib
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import portinit
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import Layout
from portinit.backends import threads
from portinit.backends.kernels import filling
from portinit.backends.object_code import ObjectCode
from portinit_jax.host_call import primitive

KEY = portinit.key(0)
SIZE = 1 << 20
RUNS_HERE = primitive.runs_here
SCRIPT = """
import hashlib, sys, warnings
import portinit
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for dtype in ("float32", "bfloat16", "float32"):
        values = portinit.normal()(portinit.key(0), (1 << 20,), dtype)
        print(hashlib.sha256(values.tobytes()).hexdigest())
print(len([w for w in caught if "array operations" in str(w.message)]))
"""


def digests() -> list[str]:
    """Of the same draws, by array operations in few elements at a time."""
    init, found = portinit.normal(), []
    for dtype in ("float32", "bfloat16", "float32"):
        grid = Grid.whole((SIZE,), Layout())
        parts = [grid.part(0, slice(i, i + 4096)) for i in range(0, SIZE, 4096)]
        whole = np.concatenate([init.evaluate(KEY, part, dtype) for part in parts])
        found.append(hashlib.sha256(whole.tobytes()).hexdigest())
    return found


def run(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_without_numbas_compiler_it_is_said_once() -> None:
    assert run(NUMBA_DISABLE_JIT="1") == [*digests(), "1"]


Damage = Callable[[Path], None]


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def shortened(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


def foreign(path: Path) -> None:
    path.write_bytes(b"not a cache\n" * 100)


@pytest.mark.slow
def test_what_numba_keeps_may_be_damaged(tmp_path: Path) -> None:
    want = [*digests(), "0"]
    assert run(NUMBA_CACHE_DIR=str(tmp_path)) == want
    for suffix in ("nbi", "nbc"):
        for damage in (emptied, shortened, foreign):
            files = [*tmp_path.rglob(f"*.{suffix}")]
            assert files
            for file in files:
                damage(file)
            assert run(NUMBA_CACHE_DIR=str(tmp_path)) == want


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, by_xla: None) -> Iterator[None]:
    """Machine code that cannot be loaded."""

    class Broken:
        py_func, stats = filling._kernel, threads

        def __call__(self, *_: Any) -> None:
            raise EOFError("Ran out of input")

    threads.warn_of_arrays.cache_clear()
    monkeypatch.setattr(filling, "_ready", True)
    monkeypatch.setattr(filling, "_failed", False)
    monkeypatch.setattr(filling, "_machine", cleared(lambda: {"fill": Broken()}))
    monkeypatch.setattr(filling, "_kernel", cleared(Broken))
    monkeypatch.setattr(filling, "discard_kept", lambda function: None)
    monkeypatch.setattr(primitive, "runs_here", RUNS_HERE)
    yield
    threads.warn_of_arrays.cache_clear()


def cleared(function: Any) -> Any:
    function = lambda made=function: made()  # noqa: E731
    function.cache_clear = lambda: None
    return function


NUMPYS: dict[str, Callable[[], Any]] = {
    "numpy": lambda: portinit.normal()(KEY, (9000,)),
    "torch": lambda: portinit.normal()(KEY, (9000,), xp=torch),
    "jax": lambda: jax.jit(lambda k: portinit.normal()(k, (9000,)))(jax.random.key(0)),
    "jax, bfloat16": lambda: jax.jit(lambda k: portinit.normal()(k, (9000,), "bfloat16"))(
        jax.random.key(0)
    ).astype("float32"),
}


@pytest.mark.parametrize("kind", NUMPYS)
def test_code_that_cannot_be_loaded_is_done_without(kind: str, broken: None) -> None:
    jax.clear_caches()
    with pytest.warns(RuntimeWarning, match=r"array operations.*EOFError: Ran out of input"):
        values = np.asarray(NUMPYS[kind]())
    dtype = "bfloat16" if "bfloat16" in kind else "float32"
    grid = Grid.whole((9000,), Layout())
    want = [
        portinit.normal().evaluate(KEY, grid.part(0, slice(i, i + 90)), dtype)
        for i in range(0, 9000, 90)
    ]
    assert np.array_equal(values, np.concatenate(want).astype(np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NUMPYS[kind]()
    jax.clear_caches()


def test_kept_object_code_carries_a_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))

    def double(x: int) -> int:
        return 2 * x

    code = ObjectCode("double", {"double": "int64(int64)"}, (__file__,), lambda: {"double": double})
    for damage in (None, emptied, shortened, foreign):
        loaded = code.load()
        assert loaded is not None
        assert loaded["double"](21) == 42
        (file,) = tmp_path.iterdir()
        if damage is not None:
            damage(file)
    whole = file.read_bytes()
    for at in (0, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        loaded = code.load()
        assert loaded is not None
        assert loaded["double"](21) == 42


_AT_EXIT = """
import atexit, hashlib
import portinit
def say():
    print(hashlib.sha256(portinit.normal()(portinit.key(0), (1 << 20,)).tobytes()).hexdigest())
atexit.register(say)
"""


def test_a_large_array_is_filled_while_the_interpreter_exits() -> None:
    command = [sys.executable, "-c", _AT_EXIT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == digests()[:1], done.stderr
