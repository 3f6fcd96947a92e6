"""Initializers by name for what a constructor computed: from nodes to portinit's own terms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

import portinit
from portinit import Initializer, Layout
from portinit.arrays.grids import Grid
from portinit.initializers.base import Random
from portinit.initializers.combinators import where
from portinit.layers import fan_in_uniform
from portinit.sampling.distributions import Distribution
from portinit_torch.tracing.modes import on_real_tensors
from portinit_torch.tracing.nodes import RecordedNode
from portinit_torch.tracing.rectangles import (
    Rectangle,
    as_index,
    writes_of,
)

_UNIFORM_SCHEMES: tuple[Random, ...] = (
    portinit.kaiming_uniform(a=math.sqrt(5)),
    portinit.xavier_uniform(),
    portinit.kaiming_uniform(nonlinearity="relu"),
    portinit.kaiming_uniform(),
    portinit.kaiming_uniform(mode="fan_out", nonlinearity="relu"),
    portinit.kaiming_uniform(nonlinearity="linear"),
    portinit.kaiming_uniform(mode="fan_out", nonlinearity="linear"),
    portinit.xavier_uniform(gain=math.sqrt(2.0)),
    portinit.xavier_uniform(gain=1 / math.sqrt(2)),
    portinit.xavier_uniform(gain=5.0 / 3),
)
_MOST_LEVELS = 50
_MOST_NESTED = 50  # initializers within one another, which is half of what a recipe's text holds

_NORMAL_SCHEMES: tuple[Random, ...] = (
    portinit.kaiming_normal(nonlinearity="relu"),
    portinit.kaiming_normal(mode="fan_out", nonlinearity="relu"),
    portinit.xavier_normal(),
    portinit.kaiming_normal(nonlinearity="linear"),
    portinit.kaiming_normal(mode="fan_out", nonlinearity="linear"),
    portinit.xavier_normal(gain=math.sqrt(2.0)),
    portinit.xavier_normal(gain=5.0 / 3),
)


def recognise(node: RecordedNode, plain: bool = False) -> Initializer | None:
    """The initializer that gives what a node holds; none if it is no named one.

    Args:
        node: the value of a whole parameter.
        plain: name distributions by their numbers, not by schemes that look at the shape.
    """
    return None if _is_deep(node) else _recognise(node, plain)


def _is_deep(node: RecordedNode) -> bool:
    """Whether a value is more operations deep than any initializer that has a name."""
    level, seen = [node], {id(node)}
    for _ in range(_MOST_LEVELS):
        below = []
        for above in level:
            writes, base = writes_of(above)
            inputs = [base, *(part for _, part in writes)] if writes else above.inputs
            for part in () if above.is_known else inputs:
                if id(part) not in seen:
                    seen.add(id(part))
                    below.append(part)
        if not below:
            return False
        level = below
    return True


def _recognise(node: RecordedNode, plain: bool = False) -> Initializer | None:
    if node.op == "full" and not node.is_complex_constant:
        return _constant(node.attributes["value"])
    if node.concrete is not None:
        return _given(node)
    if node.op in ("uniform", "normal", "trunc_normal"):
        return _distribution(node, plain)
    if node.op in ("mul", "div", "add", "sub", "neg", "cast"):
        return _affine(node)
    if node.op == "clamp":
        return _truncated_by_erfinv(node)
    if node.op in ("reshape", "permute", "flip", "strided"):
        return _rearranged(node)
    if node.op == "concat":
        return _blocks(list(node.inputs), node.attributes["axis"])
    if node.op == "scatter":
        return _parts(node)
    return None


def _constant(value: float) -> Initializer:
    named: dict[float, Initializer] = {0.0: portinit.zeros, 1.0: portinit.ones}
    return named.get(float(value), portinit.constant(float(value)))


def _given(node: RecordedNode) -> Initializer | None:
    """Known values: a constant, an identity, or data."""
    assert node.concrete is not None
    tensor = node.concrete
    if tensor.is_complex():
        return portinit.assign(on_real_tensors(lambda: tensor.resolve_conj().numpy()))
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    values = tensor.detach().cpu().resolve_conj().numpy()
    if values.size and (values == values.flat[0]).all():
        return _constant(values.flat[0].item())
    for identity in (portinit.eye(), *(portinit.dirac(g) for g in _groups(values.shape))):
        if _gives(identity, values):
            return identity
    return portinit.assign(values)


def _groups(shape: Sequence[int]) -> Iterator[int]:
    return (g for g in (1, 2, 4, 8) if 3 <= len(shape) <= 5 and shape[0] % g == 0)


def _gives(initializer: Initializer, values: np.ndarray) -> bool:
    try:
        made = initializer(portinit.key(0), values.shape, "float32", layout="torch")
    except ValueError:
        return False
    return bool(np.array_equal(made, values))


def _law(initializer: Random, shape: tuple[int, ...]) -> Distribution | None:
    try:
        return initializer.element_distribution(Grid.whole(shape, Layout()))
    except ValueError:
        return None


def _distribution(node: RecordedNode, plain: bool) -> Initializer:
    a = node.attributes
    if node.op == "trunc_normal":
        return portinit.trunc_normal(a["mean"], a["std"], a["a"], a["b"])
    exact: Random
    if node.op == "uniform":
        exact, schemes = portinit.uniform(a["a"], a["b"]), _UNIFORM_SCHEMES
    else:
        exact, schemes = portinit.normal(a["mean"], a["std"]), _NORMAL_SCHEMES
    if plain:
        return exact
    law = _law(exact, node.shape)
    named = next((scheme for scheme in schemes if _law(scheme, node.shape) == law), None)
    return named or _by_fan(node, law) or exact


def _by_fan(node: RecordedNode, law: Distribution | None) -> Initializer | None:
    """U(-1/sqrt(n), 1/sqrt(n)) for a whole n: a bias, or a recurrent weight."""
    b = node.attributes.get("b", 0.0)
    if node.op != "uniform" or not 0 < b <= 1:
        return None
    bias = fan_in_uniform(round(1 / b**2))
    return bias if _law(bias, node.shape) == law else None


def _affine(node: RecordedNode) -> Initializer | None:
    """A draw times and plus numbers is a draw from another distribution."""
    if node.op == "mul" and len(node.inputs) == 2:
        return _orthonormal(node)
    inner = _recognise(node.inputs[0], plain=True) if len(node.inputs) == 1 else None
    if inner is None or node.inputs[0].shape != node.shape:
        return None
    if node.op == "cast" and not node.dtype.startswith(("float", "bfloat")):
        return None  # whole numbers are no sample of the distribution
    if node.op == "cast":
        return _recognise(node.inputs[0])
    if node.op == "neg":
        return _scaled(inner, -1.0)
    other, reverse = float(node.attributes["other"]), node.attributes.get("reverse", False)
    if node.op == "mul":
        return _scaled(inner, other)
    if node.op == "div":
        return None if reverse or other == 0 else _scaled(inner, 1 / other)
    other *= node.attributes.get("alpha", 1)
    if node.op == "sub" and not reverse:
        return _shifted(inner, -other)
    if node.op == "sub":
        mirrored = _scaled(inner, -1.0)
        return None if mirrored is None else _shifted(mirrored, other)
    return _shifted(inner, other)


def _scaled(inner: Initializer, factor: float) -> Initializer | None:
    match inner:
        case portinit.uniform(a=a, b=b):
            return portinit.uniform(*sorted((a * factor, b * factor)))
        case portinit.normal(mean=mean, std=std):
            return portinit.normal(mean * factor, std * abs(factor))
        case portinit.trunc_normal(mean=mean, std=std, a=a, b=b) if factor:
            bounds = sorted((a * factor, b * factor))
            return portinit.trunc_normal(mean * factor, std * abs(factor), *bounds)
        case portinit.orthogonal(gain=gain):
            return portinit.orthogonal(gain * factor)
    return None


def _shifted(inner: Initializer, offset: float) -> Initializer | None:
    match inner:
        case portinit.uniform(a=a, b=b):
            return portinit.uniform(a + offset, b + offset)
        case portinit.normal(mean=mean, std=std):
            return portinit.normal(mean + offset, std)
        case portinit.trunc_normal(mean=mean, std=std, a=a, b=b):
            return portinit.trunc_normal(mean + offset, std, a + offset, b + offset)
    return None


def _truncated_by_erfinv(node: RecordedNode) -> Initializer | None:
    """clamp(erfinv(u) * (std * sqrt(2)) + mean, a, b): a truncated normal by inversion."""
    chain = [node]
    while len(chain[-1].inputs) == 1:
        chain.append(chain[-1].inputs[0])
    if [s.op for s in chain] != ["clamp", "add", "mul", "erfinv", "uniform"]:
        return None
    a, b = node.attributes.get("min"), node.attributes.get("max")
    std = chain[2].attributes["other"] / math.sqrt(2)
    if a is None or b is None or not std > 0:
        return None
    rounded = float(f"{std:.12g}")  # undo the product with sqrt(2)
    return portinit.trunc_normal(float(chain[1].attributes["other"]), rounded, float(a), float(b))


def _rearranged(node: RecordedNode) -> Initializer | None:
    """Independent draws stay what they are in another order, as long as each is used once."""
    (inner,) = node.inputs
    if math.prod(inner.shape) != math.prod(node.shape):
        return None
    if node.op == "strided" and not _is_permutation(node):
        return None
    found = _recognise(inner, plain=True)
    return found if isinstance(found, Random | portinit.orthogonal) else None


def _is_permutation(node: RecordedNode) -> bool:
    a, expected = node.attributes, 1
    for size, stride in sorted(zip(a["size"], a["stride"], strict=True), key=lambda x: x[1]):
        if size > 1 and stride != expected:
            return False
        expected *= size
    return bool(a["offset"] == 0)


def _orthonormal(node: RecordedNode) -> Initializer | None:
    """Q of a normal matrix times the signs of R's diagonal."""
    chains = [_ops(part) for part in node.inputs]
    if ["qr_q"] not in [c[:1] for c in chains]:
        return None
    signs = next((c for c in chains if c[:3] == ["sign", "diagonal", "qr_r"]), None)
    drawn = all(c[-1] == "normal" for c in chains)
    return portinit.orthogonal() if signs and drawn else None


def _ops(node: RecordedNode) -> list[str]:
    """The operations from a node down to a draw, through single inputs."""
    chain = [node]
    while len(chain[-1].inputs) == 1:
        chain.append(chain[-1].inputs[0])
    return [link.op for link in chain]


def _blocks(parts: list[RecordedNode], axis: int) -> Initializer | None:
    found = [_recognise(part) for part in parts]
    if any(part is None for part in found):
        return None
    sizes = tuple(part.shape[axis] for part in parts)
    return portinit.blocks(tuple(part for part in found if part), sizes, axis)


def _parts(node: RecordedNode) -> Initializer | None:
    """A parameter written in several rectangles, the last writer of each element deciding."""
    writes, base = writes_of(node)
    if base.op == "scatter":  # something that is no rectangle
        return None
    packed = _partition(node.shape, writes) or _sparse(base, writes)
    if packed is not None:
        return packed
    if len(writes) > _MOST_NESTED:
        return None
    outside = _recognise(base)
    for rectangle, written in reversed(writes):
        inside = _recognise(written, plain=True)
        if inside is None or outside is None or not isinstance(inside, Random | portinit.constant):
            return None
        outside = where(as_index(rectangle, node.shape), inside, outside)
    return outside


def _partition(
    shape: tuple[int, ...], writes: list[tuple[Rectangle, RecordedNode]]
) -> Initializer | None:
    """Rectangles that cut the parameter along one axis are blocks of their own shapes."""
    whole = tuple((0, n) for n in shape)
    cut = {axis for r, _ in writes for axis, bound in enumerate(r) if bound != whole[axis]}
    if len(cut) != 1 or len({r for r, _ in writes}) != len(writes):
        return None
    (axis,) = cut
    ordered = sorted(writes, key=lambda write: write[0][axis])
    ends = [0, *(r[axis][1] for r, _ in ordered)]
    starts = [r[axis][0] for r, _ in ordered]
    if starts != ends[:-1] or ends[-1] != shape[axis]:
        return None
    sized = all(math.prod(w.shape) == math.prod(b - a for a, b in r) for r, w in ordered)
    parts = [written for _, written in ordered]
    if not sized or any(len(part.shape) != len(shape) for part in parts):
        return None
    return _blocks(parts, axis)


def _sparse(base: RecordedNode, writes: list[tuple[Rectangle, RecordedNode]]) -> Initializer | None:
    """A normal matrix with as many zeros at random rows of every column."""
    zeroed = [w for _, w in writes if w.op == "index_put" and w.attributes["value"] == 0]
    if base.op != "normal" or len(base.shape) != 2 or len(zeroed) != base.shape[1]:
        return None
    columns = {r[1] for r, _ in writes if r[0] == (0, base.shape[0])}
    counts = {w.inputs[1].shape[0] for w in zeroed}
    if len(columns) != base.shape[1] or len(counts) != 1 or len(writes) != len(zeroed):
        return None
    rows, (zeros,) = base.shape[0], counts
    exact = zeros / rows
    sparsity = exact if math.ceil(exact * rows) == zeros else (zeros - 0.5) / rows
    return portinit.sparse(sparsity, base.attributes["std"])
