"""Chips that are not here: what their compilers make of a draw, beside JAX's own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import chips

pytestmark = pytest.mark.slow

for_tpus = pytest.mark.skipif(
    not chips.has_compiler("v5e:2x2"), reason="needs pip install 'portinit[chips]'"
)
for_gpus = pytest.mark.skipif(
    not chips.has_compiler("h100"), reason="needs an environment with jax-cuda12-plugin"
)

MOST = {"uniform": 1.1, "normal": 1.6}
"""Of JAX's own cycles."""


def rows_of(chip: str) -> Any:
    """By a process of its own: the compiler is not to be loaded into this one."""
    command = [sys.executable, "-m", "benchmarks.chips", "--json", "--chips", chip]
    result = subprocess.run(
        command,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(chips.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module", params=chips.TPUS)
def found(request: pytest.FixtureRequest) -> Any:
    return rows_of(request.param)


@pytest.fixture(scope="module", params=chips.GPUS)
def on_gpu(request: pytest.FixtureRequest) -> Any:
    return rows_of(request.param)


@for_gpus
def test_no_gpu_fuses_a_product_and_a_sum(on_gpu: Any) -> None:
    assert len(on_gpu) == len(chips.DTYPES) * len(chips.draws())
    for row in on_gpu:
        ours = row["ours"]
        assert (ours["multiply_adds"], ours["lookups"], ours["collectives"]) == (0, 0, 0), row
    # JAX's own normal has some, so the count can see them.
    assert all(row["theirs"]["multiply_adds"] for row in on_gpu if "normal" in row["draw"])


@for_gpus
def test_every_draw_is_one_pass_on_a_gpu(on_gpu: Any) -> None:
    for row in on_gpu:
        assert row["ours"]["passes"] == 1, row
        assert row["ours"]["temporaries"] < 0.001, row


@for_tpus
def test_every_draw_is_one_pass_without_look_ups(found: Any) -> None:
    assert len(found) == len(chips.DTYPES) * len(chips.draws())
    for row in found:
        ours = row["ours"]
        assert (ours["custom"], ours["lookups"], ours["collectives"]) == (0, 0, 0), row
        assert ours["temporaries"] < 0.02, row


@for_tpus
def test_no_draw_takes_many_more_cycles_than_jaxs(found: Any) -> None:
    for row in found:
        kind = "uniform" if "uniform" in row["draw"] else "normal"
        assert 0.5 < row["ratio"] < MOST[kind], row


@for_tpus
def test_a_look_up_would_be_seen() -> None:
    """The witness itself, of a table that a draw looks up."""
    code = (
        "import jax.numpy as jnp, numpy as np\n"
        "from benchmarks import chips\n"
        "table = np.arange(2**15, dtype=np.float32)\n"
        "words = chips.of_jax('uniform', 'float32')\n"
        "look_up = lambda key: jnp.take(table, (words(key) * 2**15).astype(int))\n"
        "seen = chips.compiled(look_up, 'v5e:2x2')\n"
        "print(seen.custom + seen.lookups)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(chips.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert int(result.stdout.splitlines()[-1]) > 0


@for_tpus
@pytest.mark.parametrize("along", ["data, model", "None, model"])
def test_nothing_is_sent_between_the_devices_of_a_mesh(along: str) -> None:
    axes = ", ".join(repr(name) if name != "None" else name for name in along.split(", "))
    code = (
        "import json, numpy as np, portinit as pi\n"
        "from dataclasses import asdict\n"
        "from jax.sharding import Mesh, NamedSharding, PartitionSpec\n"
        "from benchmarks import chips\n"
        "chips.SHAPE = (16384, 16384)\n"
        "grid = np.array(chips.devices('v5e:4x4')).reshape(4, 4)\n"
        f"spec = PartitionSpec({axes})\n"
        "sharding = NamedSharding(Mesh(grid, ('data', 'model')), spec)\n"
        "draw = chips.of_portinit(pi.he_normal(), 'bfloat16')\n"
        "print(json.dumps(asdict(chips.compiled(draw, 'v5e:4x4', sharding))))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(chips.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    seen = json.loads(result.stdout.splitlines()[-1])
    assert (seen["collectives"], seen["custom"], seen["lookups"]) == (0, 0, 0)
    assert seen["temporaries"] < 0.02


@for_tpus
@pytest.mark.parametrize("stacked", [False, True], ids=["layers", "stacked"])
def test_a_models_initialisation_sends_nothing_on_a_mesh(stacked: bool) -> None:
    """Each program of a Llama-shaped tree, compiled for 16 v5e."""
    code = (
        "import json, jax, numpy as np, portinit as pi, portinit_flax\n"
        "from dataclasses import asdict\n"
        "from jax.sharding import Mesh, NamedSharding, PartitionSpec as P\n"
        "from benchmarks import chips\n"
        f"stacked = {stacked}\n"
        "grid = np.array(chips.devices('v5e:4x4')).reshape(4, 4)\n"
        "mesh = Mesh(grid, ('data', 'model'))\n"
        "lead = (4,) if stacked else ()\n"
        "def of(spec, *shape):\n"
        "    array = jax.ShapeDtypeStruct((*lead, *shape), 'bfloat16')\n"
        "    return array, NamedSharding(mesh, P(*(None,) * len(lead), *spec))\n"
        "layer = {\n"
        "    'q': {'kernel': of(('data', 'model'), 8192, 8192)},\n"
        "    'k': {'kernel': of(('data', 'model'), 8192, 1024)},\n"
        "    'down': {'kernel': of(('model', 'data'), 28672, 8192)},\n"
        "    'norm': {'scale': of((None,), 8192)},\n"
        "}\n"
        "tree = {'layers': layer} if stacked else {f'layers_{i}': layer for i in range(3)}\n"
        "pair = lambda x: isinstance(x, tuple)\n"
        "shapes = jax.tree.map(lambda x: x[0], tree, is_leaf=pair)\n"
        "shardings = jax.tree.map(lambda x: x[1], tree, is_leaf=pair)\n"
        "recipe = pi.Recipe([('*norm*', pi.ones()), ('*', pi.trunc_normal(std=0.02))])\n"
        "made = portinit_flax.precompile(\n"
        "    shapes, recipe, shardings=shardings, stacked={'layers': 0} if stacked else None\n"
        ")\n"
        "seen = [asdict(chips.witness(program.compiled, 0.0)) for program in made.programs]\n"
        "print(json.dumps(seen))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        cwd=Path(chips.__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    programs = json.loads(result.stdout.splitlines()[-1])
    assert len(programs) == 4  # one for each shape and sharding
    for seen in programs:
        assert (seen["collectives"], seen["custom"], seen["lookups"]) == (0, 0, 0)
        assert seen["temporaries"] < 0.02
