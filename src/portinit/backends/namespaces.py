"""Arrays of a namespace without an adapter, of which no more is known than the array API says."""

from __future__ import annotations

import importlib
from functools import cached_property
from types import ModuleType
from typing import Any

import array_api_compat as compat

from portinit.backends.base import Backend, Request
from portinit.backends.plan import Plan


class NamespaceBackend(Backend):
    """Arrays of CuPy, dask, array-api-strict, or of any other namespace of the array API."""

    @cached_property
    def shares_slices(self) -> bool:
        """Whether what is written to a slice is written to the array, as in NumPy.

        The array API leaves it open: dask's slices are arrays of their own, and some namespaces
        have no assignment.
        """
        whole = self.xp.zeros(2, dtype=self.xp.int32)
        try:
            part = whole[:1]
            part[...] = 1
        except (TypeError, ValueError, NotImplementedError):
            return False
        return bool(whole[0] == 1)

    def execute(self, plan: Plan, request: Request, out: Any = None) -> Any:
        if out is None and not self.shares_slices:
            return self.values(plan, request)
        return super().execute(plan, request, out)


def with_array_api(xp: ModuleType) -> ModuleType:
    """A namespace as the array API has it: array-api-compat's, where it wraps that library."""
    wraps = {"cupy": compat.is_cupy_namespace, "dask.array": compat.is_dask_namespace}
    for name, is_one in wraps.items():
        if is_one(xp):
            return importlib.import_module(f"array_api_compat.{name}")
    return xp
