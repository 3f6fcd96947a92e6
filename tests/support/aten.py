"""What torch runs on a device that is not here: ATen's operations, traced with fake tensors.

Eager torch runs each operation as a kernel of its own, so that nothing is fused; an operation
that is itself exact is exact on every device. The walk is that of StableHLO's, in ATen's names.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.support import inexact
from tests.support.flow import Trail, joined
from tests.support.inexact import Finding

_MOVES = (
    "_unsafe_view alias arange cat clone complex detach empty empty_like expand full full_like "
    "gather index index_put index_select lift_fresh_copy neg ones permute reshape select slice "
    "squeeze stack t transpose unsqueeze view where zeros zeros_like"
)
_COMPARISONS = "clamp clamp_max clamp_min maximum minimum eq ge gt le lt ne"
_EXACT = frozenset(_MOVES.split())
_BETWEEN = frozenset(_COMPARISONS.split())
_NAMES = {
    inexact.FUNCTION: "cos erf erfinv exp expm1 log log1p pow sin tan tanh",
    inexact.ROOT: "rsqrt sqrt",
    inexact.QUOTIENT: "div fmod reciprocal remainder",
    inexact.ORDER: "addmm bmm cumsum linalg_qr mean mm std sum var",
    inexact.FUSED: "addcdiv addcmul lerp",
    inexact.GENERATOR: "bernoulli normal rand randn random uniform",
}
_REASONS = {name: why for why, names in _NAMES.items() for name in names.split()}


def traced(function: Any, *arguments: Any) -> Any:
    """The graph of ATen operations of a function of torch tensors; nothing is computed."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    with FakeTensorMode(allow_non_fake_inputs=True):
        return make_fx(function)(*arguments).graph


def aten_findings(graph: Any) -> list[Finding]:
    """What in a graph of ATen operations may differ between two devices, each once."""
    trails: dict[Any, Trail] = {}
    found: list[Finding] = []
    for node in graph.nodes:
        trails[node], reasons = _step(node, [trails[arg] for arg in node.all_input_nodes])
        found.extend(Finding(str(node.target), why) for why in reasons)
    return [*dict.fromkeys(found)]


def _step(node: Any, inputs: list[Trail]) -> tuple[Trail, Iterable[str]]:
    name = str(node.target).removeprefix("aten.").partition(".")[0].rstrip("_")
    through = joined(inputs)
    if _REASONS.get(name) == inexact.GENERATOR:
        return through, [inexact.GENERATOR]
    if node.op != "call_function" or name in _EXACT or not _floats(node):
        return through, []
    if name == "_to_copy":
        return through, _conversion(node)
    if name == "mul":
        return Trail(through.products + 1, bare=True), [inexact.FOLDED] * (through.products > 0)
    if name in ("add", "sub", "rsub"):
        fused = through.bare or node.kwargs.get("alpha", 1) != 1
        return Trail(through.products), [inexact.FUSED if fused else inexact.SUM]
    reasons = [] if name in _BETWEEN else [_REASONS.get(name, inexact.UNKNOWN)]
    return Trail(through.products), reasons


def _conversion(node: Any) -> Iterable[str]:
    source, target = _dtype(node.all_input_nodes[0]), _dtype(node)
    if source.is_floating_point and not target.is_floating_point:
        yield inexact.TO_INTEGER
    if source.itemsize > 1 and not source.is_floating_point and target.itemsize < 4:
        yield inexact.TO_NARROW


def _floats(node: Any) -> bool:
    dtypes = [_dtype(each) for each in (node, *node.all_input_nodes)]
    return any(d is not None and (d.is_floating_point or d.is_complex) for d in dtypes)


def _dtype(node: Any) -> Any:
    return getattr(node.meta.get("val"), "dtype", None)
