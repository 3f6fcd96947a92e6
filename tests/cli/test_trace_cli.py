"""The commands on traced recipes: trace, replay, port --trace."""

import ast
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click.testing
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch

import portinit
from portinit import Recipe
from portinit.cli.commands import portinit as command
from portinit.replay.torch_math import mkl

NETS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 20)
        self.norm = nn.BatchNorm1d(20)
        self.low = nn.Linear(20, 5).bfloat16()
        nn.init.trunc_normal_(self.fc.weight, std=0.02)
        self.free = nn.Parameter(torch.randn(4, 5) * torch.rand(5))
        self.register_buffer("mask", torch.ones(3, 3, dtype=torch.bool).tril())

class Lost(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.fc.weight.data = torch.special.digamma(torch.rand(3, 3))

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.table.weight
        self.copy = nn.Parameter(self.table.weight.data)

class Near(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.dt = nn.Parameter(torch.exp(torch.rand(500) * 4 - 7))

def reads():
    return nn.Linear(3, 2 + int(torch.rand(()) > 2))

def no_module():
    return 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")  # so that no cell of a table is folded
    monkeypatch.delitem(sys.modules, "nets", raising=False)
    return tmp_path


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(command, arguments)


def words_of(result: click.testing.Result) -> str:
    return re.sub(r"[\s│]+", "", result.output)


def ended_well(result: click.testing.Result) -> bool:
    assert result.exception is None, result.output
    return result.exit_code == 0


def refused(result: click.testing.Result, *words: str) -> bool:
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    missing = [word for word in words if re.sub(r"\s", "", word) not in words_of(result)]
    assert not missing, result.output
    return result.exit_code != 0


def line_of(text: str) -> int:
    return next(n for n, line in enumerate(NETS.splitlines(), 1) if text in line)


def made(name: str, seed: int) -> dict[str, torch.Tensor]:
    space: dict[str, Any] = {}
    exec(NETS, space)  # the file's own text
    torch.manual_seed(seed)
    model = space[name]()
    return {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()]}


def traced(name: str = "Net") -> str:
    assert ended_well(run("trace", f"nets.py:{name}", "--out", "recipe.json"))
    return "recipe.json"


@pytest.mark.parametrize("name", ["trace", "replay"])
def test_each_command_has_help(name):
    result = run(name, "--help")
    assert ended_well(result)
    assert "--out" in result.output


# trace


def test_trace_shows_each_parameter():
    result = run("trace", "nets.py:Net")
    assert ended_well(result)
    shown = words_of(result)
    for name in made("Net", 0):
        assert name in shown
    assert "trunc_normal(std=0.02)" in shown
    assert not Path("recipe.json").exists()


def test_trace_writes_the_recipe():
    result = run("trace", "nets.py:Net", "--out", "recipe.json")
    assert ended_well(result)
    assert "wroterecipe.json" in words_of(result)
    recipe = Recipe.from_json(Path("recipe.json").read_text())
    assert list(recipe.names) == list(made("Net", 0))
    assert recipe.program is not None
    sources = {str(rule.name): str(rule.source) for rule in recipe.rules}
    assert sources["free"].endswith(f"nets.py:{line_of('self.free')}")
    assert sources["fc.weight"].endswith(f"nets.py:{line_of('trunc_normal_')}")


def test_a_written_recipe_shows():
    result = run("show", traced())
    assert ended_well(result)
    assert "trunc_normal(std=0.02)" in words_of(result)


def test_trace_as_code_can_be_pasted():
    result = run("trace", "nets.py:Net", "--as-code")
    assert ended_well(result)
    ast.parse(result.output)
    assert "trunc_normal" in result.output


RAW = """
import math
from torch import nn

class Raw(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.empty(12, 24))
        nn.init.kaiming_uniform_(self.w, a=math.sqrt(5))
        self.gain = nn.Parameter(torch.full((3,), 2.0))
        self.linear = nn.Linear(12, 24)
        self.conv = nn.Conv2d(6, 4, 3)
        self.up = nn.ConvTranspose2d(5, 3, 2)
        self.norm = nn.LayerNorm(24)
        self.embed = nn.Embedding(30, 4)
        nn.init.kaiming_normal_(self.embed.weight)
        self.attn = nn.MultiheadAttention(8, 2)
"""


def test_what_is_pasted_draws_from_what_pytorch_draws_from():
    Path("raw.py").write_text("import torch" + RAW)
    result = run("trace", "raw.py:Raw", "--as-code")
    assert ended_well(result)
    lines = [line.split(",  # ") for line in result.output.splitlines()]
    code = {name: text for text, name in lines}
    labels = {name: text.partition("=")[0] for name, text in code.items()}
    assert {name: labels[name] for name in ("w", "gain", "norm.weight", "embed.weight")} == {
        "w": "init",
        "gain": "init",
        "norm.weight": "scale_init",
        "embed.weight": "embedding_init",
    }
    shapes = {  # in Flax, with the std of PyTorch's documentation
        "w": ((12, 24), 1 / math.sqrt(3 * 24)),
        "linear.weight": ((12, 24), 1 / math.sqrt(3 * 12)),
        "conv.weight": ((3, 3, 6, 4), 1 / math.sqrt(3 * 6 * 9)),
        "up.weight": ((2, 2, 5, 3), 1 / math.sqrt(3 * 3 * 4)),  # fan_in is of axis 1: (in, out)
        "embed.weight": ((30, 4), math.sqrt(2 / 4)),
        "attn.in_proj_weight": ((8, 24), math.sqrt(2 / (8 + 24))),
    }
    for name, (shape, std) in shapes.items():
        initializer = eval(code[name].partition("=")[2], {"portinit": portinit})
        assert initializer.distribution_of(shape).std == pytest.approx(std, rel=1e-6), name


def test_what_is_lost_is_named():
    result = run("trace", "nets.py:Lost", "--out", "recipe.json")
    place = f"nets.py:{line_of('special.digamma')}"
    assert refused(result, "fc.weight", "digamma", place, "cannot be carried")
    assert refused(run("replay", "recipe.json", "--out", "w.safetensors"), "fc.weight", place)
    assert not Path("w.safetensors").exists()


def test_values_that_are_read_are_named():
    result = run("trace", "nets.py:reads", "--out", "recipe.json")
    assert refused(result, f"nets.py:{line_of('torch.rand(())')}")
    assert not Path("recipe.json").exists()


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("nets.py:no_module", "int"),
        ("nets.py:nothing", "nothing"),
        ("nowhere.py:Net", "nowhere.py"),
        ("nets", "module:function"),
    ],
)
def test_a_bad_factory_is_refused(factory, words):
    assert refused(run("trace", factory, "--out", "recipe.json"), words)
    assert not Path("recipe.json").exists()


def test_a_folder_that_does_not_exist_is_refused():
    assert refused(run("trace", "nets.py:Net", "--out", "no/recipe.json"), "no")


# replay


@pytest.mark.parametrize("seed", [0, 42, 2**40, -1])
def test_replay_writes_what_torch_gives(seed):
    result = run("replay", traced(), "--seed", str(seed), "--out", "w.safetensors")
    assert ended_well(result)
    expected = made("Net", seed)
    with safetensors.safe_open("w.safetensors", framework="pt") as file:
        assert set(file.keys()) == set(expected)
        for name, tensor in expected.items():
            found = file.get_tensor(name)
            assert found.dtype == tensor.dtype, name
            assert torch.equal(found, tensor), name
        assert file.metadata()["seed"] == str(seed)


def test_replay_says_which_digits_to_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("replay", traced(), "--out", "w.safetensors")
    assert "every bit is PyTorch's" in result.output
    monkeypatch.setattr(mkl, "find", lambda version: None)
    result = run("replay", traced("Near"), "--out", "w.safetensors")
    assert ended_well(result)
    assert "every bit of 2 is PyTorch's; the last bits of 1 may differ (exp): dt" in result.output


def test_replay_of_transposed_values():
    result = run("replay", traced("Tied"), "--out", "w.safetensors")
    assert ended_well(result)
    found, expected = safetensors.numpy.load_file("w.safetensors"), made("Tied", 0)
    assert set(found) == set(expected)
    assert all(np.array_equal(found[name], expected[name].numpy()) for name in expected)


def test_replay_of_another_version():
    file = traced()
    assert ended_well(run("replay", file, "--out", "new.safetensors"))
    same = ["--torch-version", "2.13.0+cpu", "--out", "same.safetensors"]
    assert ended_well(run("replay", file, *same))
    assert Path("same.safetensors").read_bytes() == Path("new.safetensors").read_bytes()
    old = ["--torch-version", "2.10", "--out", "old.safetensors"]
    assert ended_well(run("replay", file, *old))
    new, before = (safetensors.numpy.load_file(f"{n}.safetensors") for n in ("new", "old"))
    # Truncated normals are drawn in another way since 2.12; what was drawn before them is the same.
    assert not np.array_equal(new["fc.weight"], before["fc.weight"])
    assert np.array_equal(new["fc.bias"], before["fc.bias"])


@pytest.mark.parametrize("version", ["latest", "2", "x.y"])
def test_a_version_that_is_none_is_refused(version):
    result = run("replay", traced(), "--torch-version", version, "--out", "w.safetensors")
    assert refused(result, "torch version", version)
    assert not Path("w.safetensors").exists()


@pytest.mark.parametrize("seed", ["x", "1.5", str(2**64), str(-(2**63) - 1)])
def test_a_bad_seed_is_refused(seed):
    assert refused(run("replay", traced(), "--seed", seed, "--out", "w.safetensors"), seed)
    assert not Path("w.safetensors").exists()


def test_a_recipe_without_a_program_is_refused():
    Path("rules.json").write_text(Recipe([("*", portinit.normal())]).to_json())
    for recipe in ("rules.json", "torch_defaults"):
        assert refused(run("replay", recipe, "--out", "w.safetensors"), "traced")
    assert not Path("w.safetensors").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"portinit": 2, "rules": []}'])
def test_a_bad_recipe_is_refused(text):
    Path("bad.json").write_text(text)
    assert refused(run("replay", "bad.json", "--out", "w.safetensors"), "bad.json")


def test_replay_needs_a_file_to_write():
    assert refused(run("replay", traced()), "--out")


def test_replay_runs_without_torch():
    traced()
    root = Path(__file__).parents[2]
    code = (
        "import sys\n"
        "for name in ('torch', 'jax', 'flax'): sys.modules[name] = None\n"
        f"sys.path.insert(0, {str(root / 'src')!r})\n"
        "from portinit.cli import main\n"
        "options = ['--seed', '5', '--out', 'w.safetensors']\n"
        "sys.argv = ['portinit', 'replay', 'recipe.json', *options]\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with safetensors.safe_open("w.safetensors", framework="pt") as file:
        for name, tensor in made("Net", 5).items():
            assert torch.equal(file.get_tensor(name), tensor), name


# port --trace

TWINS = ["convnet", "gpt", "lstm"]


def port(name: str, *options: str) -> click.testing.Result:
    sides = (f"portinit_examples.{name}_{side}:make_model" for side in ("torch", "flax"))
    return run("port", *sides, *options)


def verdicts(result: click.testing.Result) -> list[str]:
    return re.findall(r"│ (same|\d+ differ)", result.output)


@pytest.mark.parametrize("name", TWINS)
def test_twins_port_by_their_own_constructors(name):
    result = port(name, "--trace", "--verbose")
    assert ended_well(result)
    assert set(verdicts(result)) == {"same"}


def test_a_replay_ports_the_weights_of_manual_seed():
    result = port("gpt", "--replay", "9", "--out", "w.safetensors", "--verbose")
    assert ended_well(result)
    assert set(verdicts(result)) == {"same"}
    assert (
        "kaiming_uniform(a=2.236)" in result.output
    )  # what the trace knows, not that values are given
    assert "assigned" not in result.output
    torch.manual_seed(9)
    from portinit_examples import gpt_torch

    model = gpt_torch.make_model()
    found = safetensors.numpy.load_file("w.safetensors")
    table = [array for path, array in found.items() if "wte" in path]
    assert len(table) == 1
    assert np.array_equal(table[0], model.wte.weight.detach().numpy())
    kernel = next(a for path, a in found.items() if "0" in path and "mlp" in path and a.ndim == 2)
    weights = [model.blocks[0].mlp.fc.weight, model.blocks[0].mlp.proj.weight]
    assert any(np.array_equal(kernel, w.detach().numpy().T) for w in weights)
    assert jax.numpy.asarray(kernel).dtype == np.float32


def test_a_key_and_a_replay_differ():
    for options in (["--trace", "--seed", "9"], ["--trace", "--replay", "9"]):
        assert ended_well(port("gpt", *options, "--out", f"{len(options[1])}.safetensors"))
    first, second = Path("6.safetensors"), Path("8.safetensors")
    assert first.read_bytes() != second.read_bytes()


def test_a_replay_needs_a_trace():
    result = port("gpt", "--replay", "9", "--recipe", "gpt2:layers=2")
    assert refused(result, "a replay needs a traced recipe")


def test_a_seed_beside_a_replay_is_refused():
    assert refused(port("gpt", "--replay", "9", "--seed", "0"), "give one of them")


def test_a_recipe_beside_a_trace_is_refused():
    assert refused(port("gpt", "--trace", "--recipe", "vit"), "give one of them")


def test_a_path_is_said_in_one_line_however_long(tmp_path, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    out = tmp_path / ("long" * 40) / "recipe.json"
    out.parent.mkdir()
    done = run("trace", "tests.cli.twins.patches_torch:make_model", "--out", str(out))
    assert ended_well(done)
    assert f"wrote {out}\n" in done.output
