"""Arrays without models: NumPy, array-api-strict for any other namespace, and dask."""

from typing import Any

from tests.support.frameworks.framework import Framework


class Numpy(Framework):
    name = "numpy"
    models = False

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        return initializer(key, shape, dtype, layout=layout)


class Strict(Framework):
    name = "array_api_strict"
    needs = ("array_api_strict",)
    dtypes = ("float32",)  # the array API has no narrower one
    models = False

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import array_api_strict

        return initializer(key, shape, dtype, xp=array_api_strict, layout=layout)


class Dask(Framework):
    name = "dask"
    needs = ("dask",)
    dtypes = ("float32",)
    models = False

    def draw(self, initializer: Any, key: Any, shape: Any, dtype: str, layout: Any) -> Any:
        import array_api_compat.dask.array as xp

        return initializer(key, shape, dtype, xp=xp, layout=layout)
