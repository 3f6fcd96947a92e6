"""Compiled programs that call the fused fills: NumPy's bytes, under every transformation of JAX."""

import math
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental import serialize_executable
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tests.support.bits import same_bits

import portinit as pi
from portinit.arrays.grids import Grid
from portinit.arrays.layouts import LAYOUTS
from portinit.verify.cases import cells
from portinit_jax.host_call import primitive, xla_ffi

pytest.importorskip("numba")

SERVES = primitive.runs_here  # before a fixture hides it
KEY = pi.key(3)
SHAPE = (96, 80)
CALL = 'custom_call_target="portinit_fill"'


@pytest.fixture(autouse=True)
def called(by_xla: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs call what they can."""
    monkeypatch.setattr(primitive, "runs_here", SERVES)
    pi.normal()(KEY, (1 << 20,), layout="torch")  # loads numba


def key() -> Any:
    return jax.random.key(3)


def program(draw: Callable[..., Any], *arguments: Any) -> str:
    text: str = jax.jit(draw).lower(*arguments).compile().as_text()
    return text


def calls(draw: Callable[..., Any], *arguments: Any) -> int:
    return program(draw, *arguments).count(CALL)


FILLS: dict[str, tuple[Any, tuple[int, ...], str]] = {
    "uniform": (pi.uniform(), SHAPE, "flax"),
    "a span": (pi.uniform(-0.3, 1.7), SHAPE, "flax"),
    "kaiming_uniform": (pi.kaiming_uniform(), SHAPE, "torch"),
    "normal": (pi.normal(), SHAPE, "flax"),
    "with a mean": (pi.normal(0.5, 0.1), SHAPE, "rows"),
    "truncated": (pi.trunc_normal(std=0.02, a=-0.03, b=0.05), SHAPE, "flax"),
    "convolution": (pi.kaiming_normal(), (3, 3, 16, 32), "flax"),
    "flipped": (pi.kaiming_normal(), (3, 3, 16, 32), "flax_conv_transpose"),
    "vector": (pi.normal(), (5000,), "torch"),
    "scaled": (pi.scaled(pi.normal(), -0.3), SHAPE, "flax"),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", FILLS)
def test_the_bytes_are_numpys(name: str, dtype: str) -> None:
    init, shape, layout = FILLS[name]
    draw = partial(init, shape=shape, dtype=dtype, layout=layout)
    text = program(draw, key())
    assert text.count(CALL) == 1
    assert not re.search(r"f32\[\d", text) or dtype == "float32"  # no array between
    assert same_bits(jax.jit(draw)(key()), init(KEY, shape, dtype, layout=layout))


@pytest.mark.parametrize(
    ("init", "count"),
    [
        (pi.normal(), 1),
        (pi.where(0, pi.zeros, pi.normal()), 1),
        (pi.blocks((pi.normal(), pi.zeros)), 0),
        (pi.blocks((pi.normal(), pi.uniform(), pi.xavier_normal()), (40, 24, 16)), 0),
    ],
    ids=str,
)
def test_there_is_no_array_in_between(init: Any, count: int) -> None:
    draw = partial(init, shape=SHAPE)
    assert calls(draw, key()) == count
    memory = jax.jit(draw).lower(key()).compile().memory_analysis()
    assert memory.temp_size_in_bytes < memory.output_size_in_bytes / 8
    assert same_bits(jax.jit(draw)(key()), init(KEY, SHAPE))


def test_what_is_not_zero_in_a_sparse_matrix_is_a_call() -> None:
    draw = partial(pi.sparse(0.5), shape=SHAPE)
    assert calls(draw, key()) == 1
    assert same_bits(jax.jit(draw)(key()), pi.sparse(0.5)(KEY, SHAPE))


@pytest.mark.parametrize("dtype", ["float16", "float64", "complex64", "float8_e5m2"])
def test_other_dtypes_are_left_to_xla(dtype: str) -> None:
    with jax.enable_x64(dtype == "float64"):
        draw = partial(pi.normal(), shape=SHAPE, dtype=dtype)
        assert calls(draw, key()) == 0
        assert same_bits(jax.jit(draw)(key()), pi.normal()(KEY, SHAPE, dtype))


@pytest.mark.parametrize("shape", [(), (3, 5), (4095,)])
def test_few_elements_are_left_to_xla(shape: tuple[int, ...]) -> None:
    draw = partial(pi.normal(), shape=shape)
    assert calls(draw, key()) == 0
    assert same_bits(jax.jit(draw)(key()), pi.normal()(KEY, shape))


def test_the_cells_of_the_matrix_are_left_to_xla() -> None:
    assert max(math.prod(cell.shape) for cell in cells()) < primitive._WORTH_A_CALL


# Transformations

X = np.linspace(-1, 1, 96, dtype=np.float32)


def test_one_program_calls_side_by_side() -> None:
    def draw(key: Any) -> list[Any]:
        return [pi.normal()(jax.random.fold_in(key, i), SHAPE) for i in range(8)]

    assert calls(draw, key()) == 8
    for i, array in enumerate(jax.jit(draw)(key())):
        assert same_bits(array, pi.normal()(KEY.fold_in(i), SHAPE))


def test_vmap_takes_array_operations() -> None:
    draw = jax.vmap(jax.vmap(partial(pi.normal(), shape=SHAPE)))
    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])[:, None]
    assert calls(draw, keys) == 0
    for i, array in enumerate(jax.jit(draw)(keys)):
        assert same_bits(array[0], pi.normal()(pi.key(i), SHAPE))


def test_a_loop_calls_in_its_body() -> None:
    def draw(keys: Any) -> Any:
        return jax.lax.scan(lambda n, k: (n + 1, pi.normal()(k, SHAPE)), 0, keys)[1]

    keys = jnp.stack([jax.random.key(i) for i in range(3)])
    assert calls(draw, keys) == 1
    for i, array in enumerate(jax.jit(draw)(keys)):
        assert same_bits(array, pi.normal()(pi.key(i), SHAPE))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.checkpoint], ids=["plain", "checkpoint"])
def test_a_gradient_passes_by(wrap: Callable[[Any], Any]) -> None:
    def loss(x: Any, key: Any) -> Any:
        return jnp.sum(x @ pi.normal()(key, SHAPE))

    expected = pi.normal()(KEY, SHAPE).astype(np.float64).sum(axis=1)
    for gradient in (jax.grad(wrap(loss)), jax.jit(jax.grad(wrap(loss)))):
        assert np.allclose(gradient(X, key()), expected, rtol=1e-4, atol=1e-4)
    _, tangent = jax.jvp(loss, (X, key()), (X, np.zeros((), jax.dtypes.float0)))
    assert np.allclose(tangent, X @ expected, rtol=1e-3, atol=1e-3)


def test_donated_memory_is_filled() -> None:
    def draw(old: Any, key: Any) -> Any:
        return pi.normal()(key, SHAPE)

    old = jnp.zeros(SHAPE)
    place = old.unsafe_buffer_pointer()
    new = jax.jit(draw, donate_argnums=0, keep_unused=True)(old, key())
    assert new.unsafe_buffer_pointer() == place
    assert same_bits(new, pi.normal()(KEY, SHAPE))


def test_without_jit() -> None:
    with jax.disable_jit():
        assert same_bits(pi.normal()(key(), SHAPE), pi.normal()(KEY, SHAPE))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_mesh_has_no_calls(kind: AxisType) -> None:
    mesh = jax.make_mesh((1,), ("x",), axis_types=(kind,))
    sharding = NamedSharding(mesh, PartitionSpec("x", None))
    init = pi.normal()
    with jax.set_mesh(mesh):
        assert calls(partial(init, shape=SHAPE), key()) == 0
        assert same_bits(jax.jit(partial(init, shape=SHAPE))(key()), init(KEY, SHAPE))
    mapped = jax.shard_map(
        partial(init, shape=SHAPE), mesh=mesh, in_specs=PartitionSpec(), out_specs=sharding.spec
    )
    assert calls(mapped, key()) == 0
    assert same_bits(jax.jit(mapped)(key()), init(KEY, SHAPE))


def test_an_export_runs_without_portinit() -> None:
    function = jax.jit(partial(pi.normal(), shape=SHAPE))
    raw = jax.random.key_data(key())
    for platforms in (["cpu"], ["cpu", "cuda", "tpu"]):
        written = export.export(function, platforms=platforms)(raw)
        assert "@portinit_fill" not in written.mlir_module()
        assert same_bits(written.call(raw), pi.normal()(KEY, SHAPE))


# XLA's interface

STRUCTURES = [
    xla_ffi._Version, xla_ffi._Metadata, xla_ffi._Extension,
    xla_ffi._MetadataExtension, xla_ffi._Error, xla_ffi._Api, xla_ffi._Text,
    xla_ffi._Buffer, xla_ffi._Operands, xla_ffi._Results, xla_ffi._Attributes,
    xla_ffi._Call,
]  # fmt: skip
HEADER = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text()


@pytest.mark.parametrize("structure", STRUCTURES, ids=lambda s: s.__name__)
def test_a_structure_begins_as_xlas_does(structure: Any) -> None:
    (body,) = re.findall(rf"struct {structure.__name__} {{(.*?)\n}}", HEADER, re.DOTALL)
    lines = [line for line in body.splitlines() if not line.strip().startswith("//")]
    fields = re.findall(r"(\w+)\)?;", "\n".join(lines))
    ours = [name for name, _ in structure._fields_]
    assert ours == fields[: len(ours)]


def test_the_numbers_are_xlas() -> None:
    wanted = {
        "XLA_FFI_Extension_Metadata": xla_ffi._METADATA,
        "XLA_FFI_Error_Code_INTERNAL": xla_ffi._INTERNAL,
        **dict(zip(("F32", "BF16"), xla_ffi._WIDTHS, strict=True)),
    }
    for name, number in wanted.items():
        assert re.search(rf"\b(?:XLA_FFI_DataType_)?{name} = {number},", HEADER)


def test_what_a_fill_raises_the_program_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("nothing to fill")

    draw = jax.jit(lambda key: pi.normal()(key, SHAPE))
    draw(key())
    with monkeypatch.context() as patch:
        patch.setattr(primitive.filling, "fill", refuse)
        with pytest.raises((RuntimeError, ValueError), match=r"ValueError: .*nothing to fill"):
            draw(key()).block_until_ready()
    assert same_bits(draw(key()), pi.normal()(KEY, SHAPE))


def test_only_a_program_for_one_device_here_has_calls() -> None:
    grid = Grid.whole(SHAPE, LAYOUTS["flax"])
    known = SimpleNamespace(
        platforms=["cpu"],
        lowering_parameters=SimpleNamespace(for_export=False),
        axis_context=SimpleNamespace(num_devices=1),
    )
    assert primitive.runs_here(known, grid)
    for other in (
        {"platforms": ["cuda"]},
        {"platforms": ["cpu", "cuda"]},
        {"lowering_parameters": SimpleNamespace(for_export=True)},
        {"lowering_parameters": SimpleNamespace()},
        {"axis_context": SimpleNamespace(num_devices=8)},
        {"axis_context": SimpleNamespace()},
    ):
        assert not primitive.runs_here(SimpleNamespace(**vars(known) | other), grid)


def test_an_interface_that_is_not_known_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    register = xla_ffi.register.__wrapped__
    assert register("portinit_test", print)
    assert not register("portinit_test", repr)  # another function of this name
    with monkeypatch.context() as patch:
        patch.setattr(xla_ffi, "_VERSION", re.compile("XLA_FFI_API_MAJOR (7)"))
        assert not register("portinit_of_version_7", print)
    monkeypatch.setattr(xla_ffi, "register", lambda *_: False)
    draw = partial(pi.normal(), shape=SHAPE)
    assert calls(draw, key()) == 0
    assert same_bits(jax.jit(draw)(key()), pi.normal()(KEY, SHAPE))


def test_threads_may_run_one_program_at_once() -> None:
    draw = jax.jit(partial(pi.normal(), shape=(400, 300)))
    draw(key())

    def run(seed: int) -> bool:
        return same_bits(draw(jax.random.key(seed)), pi.normal()(pi.key(seed), (400, 300)))

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(run, range(60)))


PROCESS = """
import sys
import jax
import numpy as np
import portinit as pi

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
seed, shape = int(sys.argv[2]), (1 << 11, 1 << 10)
init = pi.normal()
made = jax.jit(lambda key: init(key, shape))(jax.random.key(seed))
assert np.array_equal(made, init(pi.key(seed), shape))
print(hits.count("/jax/compilation_cache/cache_hits") > 0)
jax.jit(lambda key: init(key, (1 << 13, 1 << 12)))(jax.random.key(seed))  # and ends meanwhile
"""


def test_a_program_kept_on_disk_calls_in_the_next_process(tmp_path: Path) -> None:
    """And a process may end while a program runs."""
    found = []
    for seed in ("4", "5"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROCESS, str(tmp_path), seed],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found += done.stdout.split()
    assert found == ["False", "True"]


_LOAD = """
import pickle, sys
import jax, portinit_jax
from jax.experimental import serialize_executable
draw = serialize_executable.deserialize_and_load(*pickle.loads(sys.stdin.buffer.read()))
sys.stdout.buffer.write(draw(jax.random.key(0)).tobytes())
"""


def test_a_serialized_program_runs_in_a_process_that_imports_portinit_jax() -> None:
    compiled = jax.jit(lambda key: pi.normal()(key, SHAPE)).lower(jax.random.key(0)).compile()
    assert primitive._TARGET in compiled.as_text()
    content = pickle.dumps(serialize_executable.serialize(compiled))
    done = subprocess.run([sys.executable, "-c", _LOAD], input=content, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == pi.normal()(pi.key(0), SHAPE).tobytes()
