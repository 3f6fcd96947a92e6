"""The functions of torch.nn.init, drawn from portinit's stream.

Names, arguments, defaults, return values, warnings and error types are torch.nn.init's. What is
added is the keyword ``key``: a :class:`portinit.Key` that fixes the values on every device and in
every framework. Without it two words are drawn from ``generator``, or from torch's default
generator, so ``torch.manual_seed`` governs as before.

Each function fills the tensor in place, of any device, floating dtype and strides, outside
autograd, and returns it. Meta tensors have nothing to fill and are returned as they are. Of a
DTensor each rank fills its own shard, as :func:`fill_` says.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Generator, Tensor

import portinit
from portinit import Key
from portinit.initializers.gains import NONLINEARITIES
from portinit.initializers.signatures import Mode, NonlinearityName
from portinit_torch import sharded
from portinit_torch.fill import fill_, fill_as_torch, refuse_lazy, require_fillable, shape_of

_R = TypeVar("_R")
_P = ParamSpec("_P")


def calculate_gain(
    nonlinearity: NonlinearityName | Callable[[Any], Any], param: int | float | None = None
) -> float:
    """Return the recommended gain of a nonlinearity: PyTorch's table, and any function's gain.

    See :func:`portinit.calculate_gain`, which this is with PyTorch's error messages.

    Args:
        nonlinearity: a name of PyTorch's table, or an elementwise function.
        param: the negative slope of ``leaky_relu``.

    Returns:
        The gain.

    Raises:
        ValueError: an unknown name, or a slope that is not a number.

    Source: ``torch.nn.init.calculate_gain``.

    >>> import portinit_torch
    >>> portinit_torch.calculate_gain("leaky_relu", 0.2)
    1.3867504905630728
    """
    if not callable(nonlinearity) and nonlinearity not in NONLINEARITIES:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    if nonlinearity == "leaky_relu" and isinstance(param, float) and math.isnan(param):
        return math.nan
    return portinit.calculate_gain(nonlinearity, param)


def uniform_(
    tensor: Tensor,
    a: float = 0.0,
    b: float = 1.0,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a tensor with draws from U[a, b); see :class:`portinit.uniform`.

    Args:
        tensor: a tensor of any shape, floating or complex dtype, and device; filled in place.
        a: lower bound, included.
        b: upper bound, excluded; a <= b.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        RuntimeError: a > b, or a bound that is not finite.
        NotImplementedError: a dtype that is neither floating nor complex.

    Source: ``torch.nn.init.uniform_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.uniform_(torch.empty(3, 5), -1, 1, key=portinit.key(0))
    >>> bool((weight.abs() <= 1).all())
    True
    """
    return fill_as_torch(tensor, generator, key, portinit.uniform, a, b)


def normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a tensor with draws from N(mean, std^2); see :class:`portinit.normal`.

    Args:
        tensor: a tensor of any shape, floating or complex dtype, and device; filled in place.
        mean: the mean.
        std: the standard deviation, 0 or more.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        RuntimeError: a negative std, or an argument that is not finite.
        NotImplementedError: a dtype that is neither floating nor complex.

    Source: ``torch.nn.init.normal_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.normal_(torch.empty(100, 100), std=0.02, key=portinit.key(0))
    >>> round(weight.std().item(), 3)
    0.02
    """
    return fill_as_torch(tensor, generator, key, portinit.normal, mean, std)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a tensor with draws from N(mean, std^2) conditioned on [a, b].

    The bounds are absolute, not in units of std; see :class:`portinit.trunc_normal`.

    Args:
        tensor: a tensor of any shape, floating or complex dtype, and device; filled in place.
        mean: the mean before truncation.
        std: the standard deviation before truncation, above 0.
        a: lower bound.
        b: upper bound, a <= b.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        RuntimeError: a > b, or an argument that is not finite.
        ZeroDivisionError: a std of 0.
        NotImplementedError: a dtype that is neither floating nor complex.

    Source: ``torch.nn.init.trunc_normal_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.trunc_normal_(torch.empty(64, 64), key=portinit.key(0))
    >>> bool((weight.abs() <= 2).all())
    True
    """
    if tensor.is_meta:
        return tensor
    if (mean < a - 2 * std) or (mean > b + 2 * std):
        warnings.warn(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. "
            "The distribution of values may be incorrect.",
            stacklevel=2,
        )
    if std == 0:
        raise ZeroDivisionError("std must be above 0, got 0")
    return fill_as_torch(tensor, generator, key, portinit.trunc_normal, mean, std, a, b)


def constant_(tensor: Tensor, val: float) -> Tensor:
    """Fill a tensor with ``val``.

    Args:
        tensor: a tensor of any shape, dtype and device; filled in place.
        val: the value.

    Returns:
        The tensor.

    Source: ``torch.nn.init.constant_``.

    >>> import portinit, portinit_torch, torch
    >>> portinit_torch.constant_(torch.empty(2), 0.5)
    tensor([0.5000, 0.5000])
    """
    with torch.no_grad():
        sharded.local(tensor).fill_(val)
    return tensor


def ones_(tensor: Tensor) -> Tensor:
    """Fill a tensor with 1.

    Args:
        tensor: a tensor of any shape, dtype and device; filled in place.

    Returns:
        The tensor.

    Source: ``torch.nn.init.ones_``.

    >>> import portinit, portinit_torch, torch
    >>> portinit_torch.ones_(torch.empty(2))
    tensor([1., 1.])
    """
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill a tensor with 0.

    Args:
        tensor: a tensor of any shape, dtype and device; filled in place.

    Returns:
        The tensor.

    Source: ``torch.nn.init.zeros_``.

    >>> import portinit, portinit_torch, torch
    >>> portinit_torch.zeros_(torch.empty(2))
    tensor([0., 0.])
    """
    with torch.no_grad():
        sharded.local(tensor).zero_()  # of sparse and quantised tensors too
    return tensor


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity; see :class:`portinit.eye`.

    Args:
        tensor: a tensor of 2 dimensions; filled in place.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of other than 2 dimensions.

    Source: ``torch.nn.init.eye_``.

    >>> import portinit, portinit_torch, torch
    >>> portinit_torch.eye_(torch.empty(2, 3))
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    if sharded.is_sharded(tensor):
        return fill_(tensor, portinit.eye(), key=_UNUSED)
    require_fillable(tensor)
    with torch.no_grad():
        tensor.zero_().diagonal().fill_(1)
    return tensor


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill a convolution's weight with the Dirac delta; see :class:`portinit.dirac`.

    Args:
        tensor: a weight ``(out, in / groups, *kernel)`` of 3 to 5 dimensions; filled in place.
        groups: the convolution's groups; they divide the output channels.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of other than 3 to 5 dimensions, or groups that do not divide its
            dimension 0.

    Source: ``torch.nn.init.dirac_``.

    >>> import portinit, portinit_torch, torch
    >>> portinit_torch.dirac_(torch.empty(2, 2, 3))[0]
    tensor([[0., 1., 0.],
            [0., 0., 0.]])
    """
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    require_fillable(tensor)
    if shape_of(tensor)[0] % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    return fill_(tensor, portinit.dirac(operator.index(groups)), key=_UNUSED)


_UNUSED = portinit.key(0)


def _require_fans(tensor: Tensor) -> None:
    if tensor.ndim < 2:
        raise ValueError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions"
        )


def xavier_uniform_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a weight with U(-b, b), b = gain * sqrt(6 / (fan_in + fan_out)).

    See :class:`portinit.xavier_uniform`.

    Args:
        tensor: a weight ``(out, in, *kernel)`` of at least 2 dimensions; filled in place.
        gain: a factor, from :func:`calculate_gain`; 0 or more.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of fewer than 2 dimensions.
        RuntimeError: a gain that is negative or not finite.

    Source: ``torch.nn.init.xavier_uniform_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.xavier_uniform_(torch.empty(3, 3), key=portinit.key(0))
    >>> bool((weight.abs() <= 1).all())  # sqrt(6 / 6)
    True
    """
    _require_fans(tensor)
    return fill_as_torch(tensor, generator, key, portinit.xavier_uniform, gain)


def xavier_normal_(
    tensor: Tensor,
    gain: float = 1.0,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a weight with N(0, std^2), std = gain * sqrt(2 / (fan_in + fan_out)).

    See :class:`portinit.xavier_normal`.

    Args:
        tensor: a weight ``(out, in, *kernel)`` of at least 2 dimensions; filled in place.
        gain: a factor, from :func:`calculate_gain`; 0 or more.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of fewer than 2 dimensions.
        RuntimeError: a gain that is negative or not finite.

    Source: ``torch.nn.init.xavier_normal_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.xavier_normal_(torch.empty(200, 200), key=portinit.key(0))
    >>> round(weight.std().item(), 2)  # sqrt(2 / 400)
    0.07
    """
    _require_fans(tensor)
    return fill_as_torch(tensor, generator, key, portinit.xavier_normal, gain)


def _kaiming_is_no_op(tensor: Tensor) -> bool:
    if 0 in shape_of(tensor):
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return True
    return False


def _require_kaiming(tensor: Tensor, mode: str, nonlinearity: Any, a: float) -> None:
    valid_modes = ["fan_in", "fan_out"]
    if mode.lower() not in valid_modes:
        raise ValueError(f"Mode {mode} not supported, please use one of {valid_modes}")
    _require_fans(tensor)
    calculate_gain(nonlinearity, a)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: NonlinearityName | Callable[[Any], Any] = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a weight with U(-b, b), b = gain * sqrt(3 / fan).

    See :class:`portinit.kaiming_uniform`.

    Args:
        tensor: a weight ``(out, in, *kernel)`` of at least 2 dimensions; filled in place.
        a: the negative slope after this layer, for ``leaky_relu`` only.
        mode: ``"fan_in"`` or ``"fan_out"``.
        nonlinearity: a name known to :func:`calculate_gain`, or a function.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of fewer than 2 dimensions, or an unknown mode or nonlinearity.

    Source: ``torch.nn.init.kaiming_uniform_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.kaiming_uniform_(torch.empty(8, 6), key=portinit.key(0))
    >>> bool((weight.abs() <= 1).all())  # sqrt(2) * sqrt(3 / 6)
    True
    """
    refuse_lazy(tensor)
    if _kaiming_is_no_op(tensor):
        return tensor
    _require_kaiming(tensor, mode, nonlinearity, a)
    return fill_as_torch(tensor, generator, key, portinit.kaiming_uniform, a, mode, nonlinearity)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: Mode = "fan_in",
    nonlinearity: NonlinearityName | Callable[[Any], Any] = "leaky_relu",
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a weight with N(0, std^2), std = gain / sqrt(fan).

    See :class:`portinit.kaiming_normal`.

    Args:
        tensor: a weight ``(out, in, *kernel)`` of at least 2 dimensions; filled in place.
        a: the negative slope after this layer, for ``leaky_relu`` only.
        mode: ``"fan_in"`` or ``"fan_out"``.
        nonlinearity: a name known to :func:`calculate_gain`, or a function.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of fewer than 2 dimensions, or an unknown mode or nonlinearity.

    Source: ``torch.nn.init.kaiming_normal_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.kaiming_normal_(torch.empty(200, 200), key=portinit.key(0))
    >>> round(weight.std().item(), 2)  # sqrt(2 / 200)
    0.1
    """
    if _kaiming_is_no_op(tensor):
        return tensor
    _require_kaiming(tensor, mode, nonlinearity, a)
    return fill_as_torch(tensor, generator, key, portinit.kaiming_normal, a, mode, nonlinearity)


def orthogonal_(
    tensor: Tensor,
    gain: float = 1,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a tensor with a (semi-)orthogonal matrix, its trailing dimensions flattened.

    See :class:`portinit.orthogonal`.

    Args:
        tensor: a tensor of at least 2 dimensions; filled in place.
        gain: multiplies the matrix.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of fewer than 2 dimensions.
        RuntimeError: a gain that is not finite.

    Source: ``torch.nn.init.orthogonal_``.

    >>> import portinit, portinit_torch, torch
    >>> q = portinit_torch.orthogonal_(torch.empty(4, 4), key=portinit.key(0))
    >>> torch.allclose(q @ q.T, torch.eye(4), atol=1e-6)
    True
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    return fill_as_torch(tensor, generator, key, portinit.orthogonal, gain)


def sparse_(
    tensor: Tensor,
    sparsity: float,
    std: float = 0.01,
    generator: Generator | None = None,
    *,
    key: Key | None = None,
) -> Tensor:
    """Fill a matrix with N(0, std^2), a fraction of each column zero.

    See :class:`portinit.sparse`. As in torch, a sparsity above 1 zeroes everything, and a negative
    one, -s, all but the fraction s.

    Args:
        tensor: a tensor of 2 dimensions; filled in place.
        sparsity: the fraction of each column that is zero.
        std: the standard deviation of the other elements.
        generator: where the key comes from when none is given; PyTorch's default CPU generator
            if None.
        key: a :class:`portinit.Key` that fixes the values on every device.

    Returns:
        The tensor.

    Raises:
        ValueError: a tensor of other than 2 dimensions.
        RuntimeError: a negative std.

    Source: ``torch.nn.init.sparse_``.

    >>> import portinit, portinit_torch, torch
    >>> weight = portinit_torch.sparse_(torch.empty(10, 3), 0.2, key=portinit.key(0))
    >>> (weight == 0).sum(dim=0)
    tensor([2, 2, 2])
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows = shape_of(tensor)[0]
    if tensor.is_meta or rows == 0:
        return tensor
    if not 0 <= sparsity <= 1:
        # torch slices a permutation of the rows, and slices accept any bound.
        sparsity = len(range(rows)[: math.ceil(sparsity * rows)]) / rows
    return fill_as_torch(tensor, generator, key, portinit.sparse, sparsity, std)


def _deprecated(function: Callable[_P, _R]) -> Callable[_P, _R]:
    name = function.__name__
    old = name.removesuffix("_")

    def renamed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        warnings.warn(
            f"`nn.init.{old}` is now deprecated in favor of `nn.init.{name}`.",
            FutureWarning,
            stacklevel=2,
        )
        return function(*args, **kwargs)

    renamed.__name__ = renamed.__qualname__ = old
    renamed.__doc__ = f"Deprecated in favour of :func:`{name}`."
    return renamed


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)
