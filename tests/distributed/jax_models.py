"""Flax models on eight devices: one digest for every mesh, programs, and where arrays lie."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from examples import llama_flax
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import portinit
import portinit_flax
from tests.distributed.jax_machine import collectives

KEY = portinit.key(42)
RECIPE = portinit.recipes.gpt2(layers=llama_flax.NUM_LAYERS)
NORMAL = portinit.Recipe([("*", portinit.normal())])
SIZES: dict[str, dict[str, Any]] = {
    "uneven": {},
    "even": {"vocab_size": 104, "dim": 40, "heads": (8, 4, 6), "hidden_dim": 56},
}
"""Axes that 8 divides, and the example's own."""

LARGE: dict[str, Any] = {
    "vocab_size": 128256,
    "dim": 8192,
    "heads": (64, 8, 128),
    "hidden_dim": 28672,
}
"""The shape of a model of 70 billion parameters, with 80 layers."""


def mesh_of(shape: tuple[int, ...], kind: str = "Auto") -> Any:
    names, count = ("data", "model")[-len(shape) :], int(np.prod(shape))
    types = (getattr(AxisType, kind),) * len(shape)
    return jax.make_mesh(shape, names, axis_types=types, devices=jax.devices()[:count])


@cache
def abstract(scanned: bool, **sizes: Any) -> Any:
    model = llama_flax.Llama(scanned=scanned, **sizes)
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))


def evenly(mesh: Any, shape: tuple[int, ...]) -> NamedSharding:
    """Every mesh axis divides the last axis that it divides evenly, if there is one."""
    entries: list[Any] = [None] * len(shape)
    for name, size in mesh.shape.items():
        free = [i for i, n in enumerate(shape) if n % size == 0 and entries[i] is None]
        if free:
            entries[free[-1]] = name
    return NamedSharding(mesh, P(*entries))


def torch_arrays(params: Any) -> Iterator[tuple[str, np.ndarray]]:
    """A Llama's parameters by PyTorch's names, in its shapes."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        first, *owners, kind = (str(k.key) for k in path)
        array = np.asarray(leaf)
        if first == "layers":
            each = [(f"layers.{i}", layer) for i, layer in enumerate(array)]
        else:
            each = [(first.replace("layers_", "layers."), array)]
        for name, one in each:
            yield ".".join([name, *owners, "weight"]), one.T if kind == "kernel" else one


def digest(params: Any) -> str:
    """As ``tests.distributed.llama.digest`` of PyTorch's tensors in the names' order."""
    total = hashlib.sha256()
    for name, array in sorted(torch_arrays(params), key=lambda item: item[0]):
        total.update(name.encode() + np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def hash_of(array: Any) -> str:
    """SHA-256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@cache
def on_one_device(size: str = "uneven") -> str:
    tree = nn.unbox(abstract(False, **SIZES[size]))
    return digest(portinit_flax.initialize(tree, RECIPE, KEY)["params"])


def tell(size: str) -> None:
    """For whom it is to compare with PyTorch's."""
    raise LookupError(on_one_device(size))


def one_digest(size: str, shape: tuple[int, ...], scanned: bool, kind: str) -> None:
    tree = nn.unbox(abstract(scanned, **SIZES[size]))
    mesh = mesh_of(shape, kind)
    shardings = jax.tree.map(lambda leaf: evenly(mesh, leaf.shape), tree)
    stacked = {"layers": 0} if scanned else None
    with jax.set_mesh(mesh) if kind == "Explicit" else nullcontext():
        filled = portinit_flax.initialize(tree, RECIPE, KEY, shardings=shardings, stacked=stacked)
    for array, sharding in zip(jax.tree.leaves(filled), jax.tree.leaves(shardings), strict=True):
        assert array.sharding == sharding
    divided = [a for a in jax.tree.leaves(filled) if not a.sharding.is_fully_replicated]
    assert bool(divided) == (mesh.size > 1)
    assert digest(filled["params"]) == on_one_device(size)


def layers_over_a_mesh(kind: str) -> None:
    """The stack divided between pipeline stages: a device holds its own layers."""
    sizes = {"num_layers": 4}
    recipe = portinit.recipes.gpt2(layers=4)
    alone = portinit_flax.initialize(nn.unbox(abstract(False, **sizes)), recipe, KEY)["params"]
    tree, mesh = nn.unbox(abstract(True, **sizes)), mesh_of((4, 2), kind)
    stack, rest = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    shardings = {"params": dict.fromkeys(tree["params"], rest) | {"layers": stack}}
    filled = portinit_flax.initialize(
        tree, recipe, KEY, shardings=shardings, stacked={"layers": 0}
    )["params"]
    layers = [alone[f"layers_{i}"] for i in range(4)]
    stack = jax.tree.map(lambda *each: np.stack(each), *layers)
    jax.tree.map(np.testing.assert_array_equal, filled["layers"], stack)
    kernel = filled["layers"]["mlp"]["up_proj"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape)[0] == 1


def compilations() -> None:
    """What is run is compiled once for all layers, and once more for no other key."""
    tree, mesh = nn.unbox(abstract(False)), mesh_of((2, 2))
    shardings = jax.tree.map(lambda leaf: evenly(mesh, leaf.shape), tree)
    jax.clear_caches()
    with counted() as count:
        portinit_flax.initialize(tree, RECIPE, KEY, shardings=shardings)
    forms = portinit_flax.precompile(tree, RECIPE, shardings=shardings).programs
    assert len(forms) < len(jax.tree.leaves(tree)) / 2
    assert count[0] == len(forms)
    with counted() as count:
        portinit_flax.initialize(tree, RECIPE, portinit.key(7), shardings=shardings)
    assert count[0] == 0


# Where arrays lie, by what the tree says


def linen_metadata(kind: str) -> None:
    with jax.set_mesh(mesh_of((4, 2), kind)):
        filled = portinit_flax.initialize(abstract(False), RECIPE, KEY)
    boxed = filled["params"]["layers_0"]["self_attn"]["o_proj"]["kernel"]
    assert boxed.names == ("model", None)
    assert boxed.value.sharding == NamedSharding(mesh_of((4, 2), kind), P("model", None))
    norm = filled["params"]["norm"]["scale"]
    assert norm.sharding.is_fully_replicated
    assert len(norm.sharding.device_set) == 8
    assert digest(jax.tree.map(np.asarray, nn.unbox(filled))["params"]) == on_one_device()


def linen_logical() -> None:
    init = nn.with_logical_partitioning(nn.initializers.zeros, ("embed", "mlp"))
    dense, rules = nn.Dense(16, kernel_init=init), [("embed", "data"), ("mlp", "model")]
    tree = jax.eval_shape(dense.init, jax.random.key(0), jnp.zeros((1, 8)))
    with jax.set_mesh(mesh_of((4, 2))), nn.logical_axis_rules(rules):
        filled = portinit_flax.initialize(tree, NORMAL, KEY)
    assert filled["params"]["kernel"].value.sharding.spec == P("data", "model")


class Net(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        init = nnx.with_partitioning(nnx.initializers.zeros, ("data", "model"))
        self.fc = nnx.Linear(8, 16, kernel_init=init, rngs=rngs)


def nnx_metadata(kind: str, make: Callable[..., Any]) -> None:
    mesh = mesh_of((4, 2), kind)
    with jax.set_mesh(mesh):
        model = portinit_flax.initialize(make(lambda: Net(nnx.Rngs(0))), NORMAL, KEY)
    assert model.fc.kernel.get_value().sharding == NamedSharding(mesh, P("data", "model"))
    assert model.fc.bias.get_value().sharding.is_fully_replicated


def nnx_shardings() -> None:
    mesh = mesh_of((4, 2))
    with jax.set_mesh(mesh):  # Flax asks for it
        model = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
        shardings = nnx.get_named_sharding(nnx.state(model, nnx.Param), mesh)
    portinit_flax.initialize(model, NORMAL, KEY, shardings=shardings)
    assert model.fc.kernel.get_value().sharding == NamedSharding(mesh, P("data", "model"))


TREE = {
    "a": {"kernel": jax.ShapeDtypeStruct((8, 16), jnp.float32)},
    "b": {"bias": jax.ShapeDtypeStruct((16,), jnp.bfloat16)},
}


def prefixes() -> None:
    mesh = mesh_of((4, 2))
    rows, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
    same = portinit_flax.initialize(TREE, NORMAL, KEY, shardings=rows)
    assert same["a"]["kernel"].sharding == same["b"]["bias"].sharding == rows
    some = portinit_flax.initialize(TREE, NORMAL, KEY, shardings={"a": rows, "b": None})
    assert some["a"]["kernel"].sharding == rows
    assert len(some["b"]["bias"].sharding.device_set) == 1
    with jax.set_mesh(mesh):
        given = {"a": P(None, "model"), "b": None}
        specs = portinit_flax.initialize(TREE, NORMAL, KEY, shardings=given)
    assert specs["a"]["kernel"].sharding.spec == P(None, "model")
    assert specs["b"]["bias"].sharding == whole


def structs_and_arrays() -> None:
    mesh = mesh_of((4, 2))
    rows = NamedSharding(mesh, P("data"))
    struct = jax.ShapeDtypeStruct((8, 16), jnp.float32, sharding=rows)
    array = jax.device_put(jnp.zeros((8, 16)), rows)
    for leaf in (struct, array):
        filled = portinit_flax.initialize({"kernel": leaf}, NORMAL, KEY)
        assert filled["kernel"].sharding == rows
    third = jax.device_put(jnp.zeros((8, 16)), jax.devices()[3])
    filled = portinit_flax.initialize({"kernel": third}, NORMAL, KEY)
    assert filled["kernel"].devices() == third.devices()


def given_values() -> None:
    values = np.arange(128.0).reshape(16, 8)
    recipe = portinit.Recipe([("a.weight", portinit.assign(values)), ("*", portinit.normal())])
    rows = NamedSharding(mesh_of((4, 2)), P("data"))
    made = portinit_flax.precompile(TREE, recipe, shardings=rows)
    for filled in (made(KEY), portinit_flax.initialize(TREE, recipe, KEY, shardings=rows)):
        assert filled["a"]["kernel"].sharding == rows
        np.testing.assert_array_equal(filled["a"]["kernel"], values.T)
    make = partial(portinit_flax.initialize, TREE, recipe, shardings=rows)
    traced = jax.jit(make)(jax.random.key(42))
    assert traced["a"]["kernel"].sharding.is_equivalent_to(rows, 2)
    np.testing.assert_array_equal(traced["a"]["kernel"], values.T)


def uneven() -> None:
    mesh = mesh_of((8,))
    tree = TREE | {"c": {"kernel": jax.ShapeDtypeStruct((6, 20), jnp.float32)}}
    try:
        portinit_flax.initialize(tree, NORMAL, KEY, shardings=NamedSharding(mesh, P("model")))
    except portinit.RecipeError as error:
        (misfit,) = error.misfits
        assert "c/kernel (6, 20)" in misfit, misfit
        assert "8" in misfit, misfit
    else:
        raise AssertionError("an uneven division was not refused")


def traced_key(kind: str, scanned: bool) -> None:
    """The whole of initialize within the user's jit, and no collective in its program."""
    mesh, tree = mesh_of((4, 2), kind), nn.unbox(abstract(scanned))
    shardings = jax.tree.map(lambda leaf: evenly(mesh, leaf.shape), tree)
    stacked = {"layers": 0} if scanned else None

    def make(key: jax.Array) -> Any:
        return portinit_flax.initialize(tree, RECIPE, key, shardings=shardings, stacked=stacked)

    with jax.set_mesh(mesh) if kind == "Explicit" else nullcontext():
        compiled = jax.jit(make).lower(jax.random.key(42)).compile()
        filled = compiled(jax.random.key(42))
    assert collectives(compiled) == []
    assert digest(filled["params"]) == on_one_device()
    for array, sharding in zip(jax.tree.leaves(filled), jax.tree.leaves(shardings), strict=True):
        assert array.sharding.is_equivalent_to(sharding, array.ndim)


# A model of 70 billion parameters


def large(scanned: bool, layers: int = 80) -> None:
    """As many programs as there are forms; on a device little more than its shards."""
    tree = nn.unbox(abstract(scanned, num_layers=layers, **LARGE))
    mesh = mesh_of((2, 4))
    shardings = jax.tree.map(lambda leaf: evenly(mesh, leaf.shape), tree)
    scaled = [
        (f"layers.{i}.{name}.weight", portinit.normal(std=0.02 / (2 * i + 2) ** 0.5))
        for i in range(layers)
        for name in ("self_attn.o_proj", "mlp.down_proj")
    ]
    others = [("*norm.weight", portinit.ones), ("*", portinit.normal(std=0.02))]
    recipe = portinit.Recipe([*scaled, *others])
    stacked = {"layers": 0} if scanned else None
    jax.clear_caches()
    with counted() as count:
        made = portinit_flax.precompile(tree, recipe, shardings=shardings, stacked=stacked)
    # Vocabulary twice, gate and up, down, query and output, key and value, norms (a stack's and
    # the last one's differ).
    assert len(made.programs) == count[0] == (8 if scanned else 7), made.programs
    needed = 0
    for program in made.programs:
        memory = program.compiled.memory_analysis()
        assert collectives(program.compiled) == []
        total = memory.output_size_in_bytes + memory.temp_size_in_bytes
        assert total <= 1.1 * memory.output_size_in_bytes, (program.paths, memory)
        needed += memory.output_size_in_bytes * len(program.paths)
    places = zip(jax.tree.leaves(tree), jax.tree.leaves(shardings), strict=True)
    held = sum(4 * np.prod(sharding.shard_shape(leaf.shape)) for leaf, sharding in places)
    assert needed == held
    assert 69e9 < sum(leaf.size for leaf in jax.tree.leaves(tree)) < 72e9


class counted:
    """Counts what JAX compiles meanwhile."""

    def __enter__(self) -> list[int]:
        self.count = [0]
        jax.monitoring.register_event_duration_secs_listener(self._hear)
        return self.count

    def _hear(self, event: str, duration: float, **_: Any) -> None:
        self.count[0] += event == "/jax/core/compile/backend_compile_duration"

    def __exit__(self, *_: object) -> None:
        jax.monitoring.unregister_event_duration_listener(self._hear)


DIGESTS: list[tuple[str, tuple[int, ...], bool, str]] = [
    ("uneven", (1,), True, "Auto"),
    ("uneven", (2,), False, "Auto"),
    ("uneven", (4,), True, "Auto"),
    ("uneven", (2, 4), False, "Auto"),
    ("uneven", (2, 4), True, "Explicit"),
    ("uneven", (4, 2), True, "Auto"),
    ("even", (8,), False, "Auto"),
    ("even", (8,), True, "Auto"),
    ("even", (4, 2), False, "Explicit"),
]

CASES: dict[str, Callable[[], None]] = {
    **{f"the digest, {size}": partial(tell, size) for size in SIZES},
    **{
        f"{size} on {shape}, {'scanned' if scanned else 'apart'}, {kind}": partial(
            one_digest, size, shape, scanned, kind
        )
        for size, shape, scanned, kind in DIGESTS
    },
    "as many compilations as forms": compilations,
    **{
        f"layers over a mesh, {kind}": partial(layers_over_a_mesh, kind)
        for kind in ("Auto", "Explicit")
    },
    **{f"linen's metadata, {kind}": partial(linen_metadata, kind) for kind in ("Auto", "Explicit")},
    "linen's logical axes": linen_logical,
    **{
        f"nnx's metadata, {kind}, {label}": partial(nnx_metadata, kind, make)
        for kind in ("Auto", "Explicit")
        for label, make in (("abstract", nnx.eval_shape), ("made", lambda f: f()))
    },
    "nnx's shardings": nnx_shardings,
    "prefixes": prefixes,
    "structs and arrays": structs_and_arrays,
    "given values": given_values,
    "an uneven division": uneven,
    "a traced key, Auto, apart": partial(traced_key, "Auto", False),
    "a traced key, Explicit, scanned": partial(traced_key, "Explicit", True),
    "70 billion, scanned": partial(large, True),
    "70 billion, apart": partial(large, False),
}
