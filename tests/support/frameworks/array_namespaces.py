"""Arrays without models: NumPy, array-api-strict for any other namespace, dask, and CuPy."""

from typing import Any

from tests.support.frameworks.framework import Framework

from portinit.verify.devices import _cupy_devices


class Numpy(Framework):
    name = "numpy"
    models = False

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        return initializer(key, shape, dtype, layout=layout)


class Strict(Framework):
    name = "array_api_strict"
    needs = ("array_api_strict",)
    dtypes = ("float32", "float64", "complex64")  # the array API has no narrower one
    models = False

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import array_api_strict

        return initializer(key, shape, dtype, xp=array_api_strict, layout=layout)


class Dask(Framework):
    """Lazy arrays, which are in one chunk as they are drawn."""

    name = "dask"
    needs = ("dask",)
    dtypes = ("float32", "float64")
    models = False

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import dask.array

        return initializer(key, shape, dtype, xp=dask.array, layout=layout)


class Cupy(Framework):
    """Only where CuPy has a device: without one it makes no array."""

    name = "cupy"
    needs = ("cupy",)
    dtypes = ("float32", "float16")
    models = False

    def missing(self) -> list[str]:
        return super().missing() or ([] if _cupy_devices() else ["a device of CuPy's"])

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import cupy

        return initializer(key, shape, dtype, xp=cupy, layout=layout)

    def to_numpy(self, array: Any) -> Any:
        return array.get()
