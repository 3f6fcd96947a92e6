"""XLA's foreign function interface, as far as an array that Python fills needs it.

The structures have the names and the first fields of those in ``xla/ffi/api/c_api.h``. Within
version 0 of the interface fields are only added, behind the others.
"""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

Fill = Callable[[str, list[int], NDArray[Any]], None]
"""Given a text, the operands and the result's memory as integers of its width."""

_VERSION = re.compile(r"#define XLA_FFI_API_MAJOR 0\n[^#]*#define XLA_FFI_API_MINOR (\d+)\n")
_METADATA = 1  # XLA_FFI_Extension_Metadata
_INTERNAL = 13  # XLA_FFI_Error_Code_INTERNAL
_WIDTHS: dict[int, np.dtype[Any]] = {11: np.dtype(np.int32), 16: np.dtype(np.int16)}
"""Of XLA_FFI_DataType: F32 and BF16."""

_HEAD = ("struct_size", c_size_t), ("extension_start", c_void_p)


def _structure(name: str, *fields: tuple[str, Any]) -> Any:
    return type(f"XLA_FFI_{name}", (ctypes.Structure,), {"_fields_": fields})


_Version = _structure("Api_Version", *_HEAD, ("major_version", c_int), ("minor_version", c_int))
_Metadata = _structure("Metadata", ("struct_size", c_size_t), ("api_version", _Version))
_Extension = _structure(
    "Extension_Base", ("struct_size", c_size_t), ("type", c_int), ("next", c_void_p)
)
_MetadataExtension = _structure(
    "Metadata_Extension", ("extension_base", _Extension), ("metadata", POINTER(_Metadata))
)
_Error = _structure("Error_Create_Args", *_HEAD, ("message", c_char_p), ("errc", c_int))
_Api = _structure(
    "Api",
    *_HEAD,
    ("api_version", _Version),
    ("internal_api", c_void_p),
    ("XLA_FFI_Error_Create", ctypes.CFUNCTYPE(c_void_p, POINTER(_Error))),
)
_Text = _structure("ByteSpan", ("ptr", c_void_p), ("len", c_size_t))
_Buffer = _structure(
    "Buffer",
    *_HEAD,
    ("dtype", c_int),
    ("data", c_void_p),
    ("rank", c_int64),
    ("dims", POINTER(c_int64)),
)
_Operands = _structure(
    "Args", *_HEAD, ("size", c_int64), ("types", c_void_p), ("args", POINTER(POINTER(_Buffer)))
)
_Results = _structure(
    "Rets", *_HEAD, ("size", c_int64), ("types", c_void_p), ("rets", POINTER(POINTER(_Buffer)))
)
_Attributes = _structure(
    "Attrs",
    *_HEAD,
    ("size", c_int64),
    ("types", c_void_p),
    ("names", c_void_p),
    ("attrs", POINTER(POINTER(_Text))),
)
_Call = _structure(
    "CallFrame",
    *_HEAD,
    ("api", POINTER(_Api)),
    ("ctx", c_void_p),
    ("stage", c_int),
    ("args", _Operands),
    ("rets", _Results),
    ("attrs", _Attributes),
)
_HANDLER = ctypes.CFUNCTYPE(c_void_p, POINTER(_Call))

_kept: list[Any] = []  # what XLA may call must not be freed


@cache
def register(name: str, fill: Fill) -> bool:
    """Let programs on the host call a Python function by a name.

    The function is given the text of the call's one attribute, its operands, integers of 32 bits,
    and the memory of its one result. What it raises, the program raises.

    Returns:
        False where the interface has a version that is not known here, or XLA refuses.
    """
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h")
    version = _VERSION.search(header.read_text(encoding="utf-8")) if header.is_file() else None
    if version is None:
        return False
    minor = int(version[1])

    def handle(call: Any) -> int | None:
        return _answer(call.contents, minor, fill)

    _kept.append(handler := _HANDLER(handle))
    capsule = jax.ffi.pycapsule(handler)  # type: ignore[no-untyped-call]
    try:
        jax.ffi.register_ffi_target(name, capsule, platform="cpu")
    except RuntimeError:  # the name has a function already, of this module before it was reloaded
        return False
    return True


def _answer(call: Any, minor: int, fill: Fill) -> int | None:
    """Do what a call wants; the address of an error if there was one."""
    if call.extension_start:
        extension = _MetadataExtension.from_address(call.extension_start)
        if extension.extension_base.type == _METADATA:  # asked once, when it is registered
            version = extension.metadata.contents.api_version
            version.major_version, version.minor_version = 0, minor
            return None
    try:
        _run(call, fill)
    except BaseException as error:  # XLA's threads have no caller who could catch it
        message = f"{type(error).__name__}: {error}".encode()
        new = _Error(ctypes.sizeof(_Error), None, message, _INTERNAL)
        created: int = call.api.contents.XLA_FFI_Error_Create(new)
        return created
    return None


def _run(call: Any, fill: Fill) -> None:
    text = call.attrs.attrs[0].contents
    operands = [call.args.args[i].contents for i in range(call.args.size)]
    words = [c_int32.from_address(operand.data).value for operand in operands]
    result = _memory(call.rets.rets[0].contents)
    fill(ctypes.string_at(text.ptr, text.len).decode(), words, result)


def _memory(result: Any) -> NDArray[Any]:
    shape = tuple(result.dims[: result.rank])
    dtype = _WIDTHS[result.dtype]
    memory = (ctypes.c_char * (math.prod(shape) * dtype.itemsize)).from_address(result.data)
    return np.ndarray(shape, dtype, memory)
