"""Machine code that is kept on disk and runs without numba, which takes a second to load.

numba compiles functions once, and their object code is kept beside their sources, as numba keeps
its own. Later processes link it with llvmlite alone, which takes less than a tenth of a second.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType
from typing import Any

from portinit.backends.threads import find_numba

_PREFIX = "portinit_"
_DIGEST = 32  # bytes
_TYPES = {"int64": ctypes.c_int64, "float32": ctypes.c_float}


class ObjectCode:
    """Functions on numbers and on the addresses of arrays, in machine code.

    Args:
        name: of the file that keeps the code.
        signatures: of each function, as numba writes them: ``int64``, ``float32``, and for
            addresses ``CPointer(uint32)`` and the like. Functions return ``int64``.
        sources: the files that the code is made from; it is kept beside the first.
        functions: gives the functions for numba to compile, by name.
    """

    def __init__(
        self,
        name: str,
        signatures: Mapping[str, str],
        sources: tuple[str, ...],
        functions: Callable[[], Mapping[str, FunctionType]],
    ) -> None:
        self._name = name
        self._signatures = signatures
        self._sources = sources
        self._functions = functions

    def is_kept(self) -> bool:
        """Whether the code is on disk for this processor, and can be run."""
        return _is_installed() and any(path.is_file() for path in self._paths())

    def load(self) -> dict[str, Callable[..., int]] | None:
        """The functions, compiled first if they are not kept; None where numba is missing."""
        if not _is_installed():
            return None
        for path in self._paths():
            with suppress(OSError):
                code = _checked(path.read_bytes())
                if code:
                    return self._linked(code)
        if find_numba() is None:
            return None
        code = self._compile()
        for path in self._paths():
            with suppress(OSError):
                _write(path, code)
                break
        return self._linked(code)

    def _paths(self) -> Iterator[Path]:
        file = f"{self._name}.{_stamp(self._sources)}.o"
        named = os.environ.get("NUMBA_CACHE_DIR")
        beside = Path(self._sources[0]).parent / "__pycache__"
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        yield from (Path(named, file),) if named else (beside / file, home / "portinit" / file)

    def _compile(self) -> bytes:
        llvm, numba = importlib.import_module("llvmlite.binding"), importlib.import_module("numba")
        whole = None
        for name, function in self._functions().items():
            compiled = numba.njit(self._signatures[name], nogil=True, error_model="numpy")(function)
            (types,) = compiled.signatures
            module = llvm.parse_assembly(compiled.inspect_llvm(types))
            entry = compiled.overloads[types].fndesc.mangled_name
            for part in module.functions:
                if not part.is_declaration and part.name != entry:
                    part.linkage = "internal"  # numba's wrappers for Python, which need numba
            module.get_function(entry).name = _PREFIX + name
            _drop_unused(module)
            if whole is None:
                whole = module
            else:
                whole.link_in(module)
        assert whole is not None
        code: bytes = _target_machine().emit_object(whole)
        return code

    def _linked(self, code: bytes) -> dict[str, Callable[..., int]]:
        llvm = importlib.import_module("llvmlite.binding")
        engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())
        engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        engine.finalize_object()
        return {
            name: _callable(engine, engine.get_function_address(_PREFIX + name), signature)
            for name, signature in self._signatures.items()
        }


def _callable(engine: Any, address: int, signature: str) -> Callable[..., int]:
    """A Python function that calls machine code, without the interpreter's lock.

    numba's functions return through their first argument and raise through the second.
    """
    names = signature.partition("(")[2].removesuffix(")").split(", ")
    types: list[Any] = [_TYPES.get(name, ctypes.c_void_p) for name in names]
    function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)(address)

    def call(*arguments: Any) -> int:
        result, error = ctypes.c_int64(0), ctypes.c_void_p(0)
        status = function(ctypes.addressof(result), ctypes.addressof(error), *arguments)
        if status:
            raise RuntimeError(f"machine code must return 0, got {status}")
        return result.value

    call.__dict__["engine"] = engine  # which owns the code
    return call


@cache
def _is_installed() -> bool:
    return find_spec("numba") is not None and find_spec("llvmlite") is not None


def _target_machine() -> Any:
    """A new one for each use: an engine owns its own, and frees it."""
    llvm = importlib.import_module("llvmlite.binding")
    with suppress(RuntimeError):  # newer versions do so by themselves
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=_features(), opt=3, reloc="pic", jit=True
    )


def _features() -> str:
    llvm = importlib.import_module("llvmlite.binding")
    features: str = llvm.get_host_cpu_features().flatten()
    return features


def _drop_unused(module: Any) -> None:
    llvm = importlib.import_module("llvmlite.binding")
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    builder = llvm.create_pass_builder(_target_machine(), options)
    builder.getModulePassManager().run(module, builder)


@cache
def _stamp(sources: tuple[str, ...]) -> str:
    """A digest of all that the code depends on: the sources, the compiler and the processor."""
    llvm = importlib.import_module("llvmlite.binding")
    versions = [metadata.version(package) for package in ("numba", "llvmlite")]
    processor = [llvm.get_default_triple(), llvm.get_host_cpu_name(), _features()]
    texts = [Path(source).read_bytes() for source in (__file__, *sources)]
    text = b"\0".join([*texts, *(part.encode() for part in versions + processor)])
    return hashlib.sha256(text).hexdigest()[:16]


def _checked(content: bytes) -> bytes | None:
    """The code in a file that :func:`_write` wrote, or None if it is damaged."""
    digest, code = content[:_DIGEST], content[_DIGEST:]
    return code if hashlib.sha256(code).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Write a whole file, the code behind its digest, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
