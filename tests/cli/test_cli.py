"""The command line: what it prints, writes and refuses, and its exit status."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import click.testing
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import portinit
import portinit_torch
from portinit import Recipe, recipes
from portinit.cli.commands import portinit as command

TORCH = """
import numpy as np
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.up = nn.ConvTranspose1d(4, 4, 2)
        self.head = nn.Linear(4, 4)

    def forward(self, x):
        x = self.up(torch.relu(self.fc(x))[:, :, None])
        return self.head(x.mean(2))

make = Net
not_callable = 3

def example_input():
    return np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)

def broken():
    raise RuntimeError("out of cheese")
"""

FLAX = """
import numpy as np
from flax import linen as nn

class Net(nn.Module):
    head: int = 4
    transposed: bool = False
    bias: bool = True
    factor: float = 1.0
    name_of_head: str = "head"

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(4, name="fc")(x))[:, None, :] * self.factor
        x = nn.ConvTranspose(
            4, (2,), padding=1, transpose_kernel=self.transposed, name="up"
        )(x)
        return nn.Dense(self.head, name=self.name_of_head, use_bias=self.bias)(x.mean(1))

def make():
    return Net()

def make_transposed():
    return Net(transposed=True)

def make_wider():
    return Net(head=5)

def make_without_bias():
    return Net(bias=False)

def make_other():
    return Net(factor=1.5)

def make_renamed():
    return Net(name_of_head="classifier")

def example_input():
    return np.linspace(-1, 1, 24, dtype=np.float32).reshape(8, 3)

def other_input():
    return np.ones((8, 3), np.float32)
"""


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a torch_net.py and a flax_net.py, as the current one."""
    (tmp_path / "torch_net.py").write_text(TORCH)
    (tmp_path / "flax_net.py").write_text(FLAX)
    monkeypatch.chdir(tmp_path)
    for name in ("torch_net", "flax_net"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def run(*arguments: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(command, arguments)


def port(flax: str = "flax_net.py:make", *options: str) -> click.testing.Result:
    return run("port", "torch_net.py:make", flax, *options)


def text(result: click.testing.Result) -> str:
    """What was printed, as one line: lines are broken where the terminal ends."""
    return re.sub(r"[\s│]+", " ", result.output)


def squeezed(result: click.testing.Result) -> str:
    """What was printed, without spaces: cells of a table fold inside words."""
    return re.sub(r"[\s│]+", "", result.output)


def verdicts(result: click.testing.Result) -> list[str]:
    return re.findall(r"│ (same|\d+ differ)", result.output)


def ported(count: int) -> str:
    return f"✓ {count} of {count} parameters identical in PyTorch and Flax; outputs within"


DIFFERENT = "✗ 6 of 6 parameters filled alike under the names found; outputs differ by"


def ended_well(result: click.testing.Result) -> bool:
    return result.exit_code == 0 and result.exception is None


def refused(result: click.testing.Result, *words: str) -> bool:
    """Ended with a message of click's own, not with a traceback."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code != 0
    assert all(word in text(result) for word in words), result.output
    return "Error" in result.output


# The group


def test_the_version():
    assert run("--version").output == f"portinit, version {portinit.__version__}\n"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands(flag):
    result = run(flag)
    assert ended_well(result)
    assert all(f"  {name} " in result.output for name in ("demo", "port", "show"))


@pytest.mark.parametrize("name", ["port", "show", "demo"])
def test_each_command_has_help(name):
    assert ended_well(run(name, "--help"))


def test_no_such_command():
    assert refused(run("prot"), "prot")


def subprocess_of(code: str) -> subprocess.CompletedProcess[str]:
    source = str(Path(portinit.__file__).parents[1])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


HIDING = """
import sys

class Hiding:
    def find_spec(self, name, *_):
        if name == {!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Hiding())
"""


@pytest.mark.parametrize("hidden", ["click", "rich"])
def test_without_what_it_needs_it_says_which_extra_to_install(hidden):
    done = subprocess_of(HIDING.format(hidden) + "from portinit.cli import main; main()")
    assert done.returncode == 1
    assert f"needs {hidden}" in done.stderr
    assert "pip install 'portinit[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_main_runs_the_commands():
    code = "import sys; sys.argv = ['portinit', '--version']; import portinit.cli as c; c.main()"
    done = subprocess_of(code)
    assert (done.returncode, done.stdout) == (0, f"portinit, version {portinit.__version__}\n")


# demo


def test_demo_ports_every_parameter():
    result = run("demo")
    assert ended_well(result)
    for name, count in (("convnet", 27), ("gpt", 28), ("lstm", 11)):
        assert f"✓ {name}: {count} of {count} parameters identical" in text(result)
    assert not verdicts(result)
    assert len(result.output.splitlines()) < 12
    assert verdicts(run("demo", "--verbose")) == ["same"] * (27 + 28 + 11)


def test_demo_takes_a_seed():
    assert refused(run("demo", "--seed", "-1"), "-1")
    assert refused(run("demo", "--seed", "x"), "x")


# port


def test_twins_port(files):
    result = port()
    assert ended_well(result)
    assert ported(6) in text(result)
    assert not verdicts(result)
    assert "model = portinit_flax.initialize(model, recipe, key)" in text(result)
    result = port("flax_net.py:make", "--verbose")
    assert verdicts(result) == ["same"] * 6
    for word in ("fc.weight", "fc/kernel", "4x3", "kaiming_uniform(a=2.236)"):
        assert word in squeezed(result)


def test_modules_of_the_current_folder_port(files):
    path = list(sys.path)
    assert ended_well(run("port", "torch_net:make", "flax_net:make"))
    assert sys.path == path


def write(path: Path, data: object) -> str:
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def test_a_transposed_kernel_is_told_by_what_is_summed_over(files):
    result = port("flax_net.py:make_transposed")
    assert ended_well(result)
    assert ported(6) in text(result)
    layout = {"axis0": [-1], "axis1": [-2], "roles": "io"}
    names = write(files / "names.json", {"up/kernel": ["up.weight", layout]})
    assert ended_well(port("flax_net.py:make_transposed", "--names", names))


def test_a_renamed_layer_is_found_and_may_be_stated(files):
    assert ended_well(port("flax_net.py:make_renamed"))
    table = {"classifier/kernel": "head.weight", "classifier/bias": "head.bias"}
    names = write(files / "names.json", table)
    assert ended_well(port("flax_net.py:make_renamed", "--names", names))


def test_a_layout_by_name_in_the_table(files):
    names = write(files / "names.json", {"head/kernel": ["head.weight", "torch"]})
    result = port("flax_net.py:make", "--names", names)
    assert result.exit_code == 1
    assert DIFFERENT in text(result)
    names = write(files / "names.json", {"head/kernel": ["head.weight", "flax"]})
    assert ended_well(port("flax_net.py:make", "--names", names))


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("make_wider", ["head.weight", "(4, 4)", "(5, 4)", "head.bias"]),
        ("make_without_bias", ["head.bias: no such parameter in the tree"]),
    ],
)
def test_models_that_do_not_match_are_refused_with_what_does_not(files, factory, words):
    result = port(f"flax_net.py:{factory}", "--out", "weights.safetensors")
    assert refused(result, *words)
    assert names_of(files) == {"torch_net.py", "flax_net.py"}


def names_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name != "__pycache__"}


def test_models_that_compute_something_else_fail(files):
    result = port("flax_net.py:make_other")
    assert result.exit_code == 1
    assert DIFFERENT in text(result)
    assert "up (up in Flax), a ConvTranspose1d, is the first layer that differs" in text(result)
    assert "fc, before it, agrees" in text(result)
    assert ended_well(port("flax_net.py:make_other", "--tolerance", "10"))


def test_inputs_may_be_named(files):
    result = port("flax_net.py:make", "--flax-input", "flax_net.py:other_input")
    assert result.exit_code == 1
    assert DIFFERENT in text(result)


def test_without_an_input_a_linen_model_is_refused(files):
    (files / "flax_net.py").write_text(FLAX.replace("def example_input", "def some_input"))
    assert refused(port(), "--flax-input")
    assert ended_well(port("flax_net.py:make", "--flax-input", "flax_net.py:some_input"))


def exported(files: Path, *options: str) -> dict[str, np.ndarray]:
    result = port("flax_net.py:make", "--out", "w.safetensors", *options)
    assert ended_well(result), result.output
    assert "wrote w.safetensors" in text(result)
    assert names_of(files) == {"torch_net.py", "flax_net.py", "w.safetensors"} | {
        Path(option).name for option in options if option.endswith(".json")
    }
    return safetensors.numpy.load_file(files / "w.safetensors")


def numpy_values(bound: Recipe, seed: int) -> dict[str, np.ndarray]:
    """What NumPy alone gives the parameters, by PyTorch's names and in its shapes."""
    key = portinit.key(seed)
    layout = {"up.weight": portinit.Layout(roles="io")}
    return {
        rule.name: rule.initializer(
            key.fold_in(rule.name), rule.shape, layout=layout.get(rule.name, "torch")
        )
        for rule in bound.rules
    }


def torch_net(files: Path) -> object:
    namespace: dict[str, object] = {}
    exec((files / "torch_net.py").read_text(), namespace)
    return namespace["Net"]()


def assert_written(arrays: dict[str, np.ndarray], values: dict[str, np.ndarray]) -> None:
    by_hand = {
        "fc/kernel": values["fc.weight"].T,
        "fc/bias": values["fc.bias"],
        "head/kernel": values["head.weight"].T,
        "head/bias": values["head.bias"],
        "up/kernel": values["up.weight"].transpose(2, 0, 1)[::-1],
        "up/bias": values["up.bias"],
    }
    assert set(arrays) == set(by_hand)
    for path, array in by_hand.items():
        assert arrays[path].dtype == np.float32
        np.testing.assert_array_equal(arrays[path], array, err_msg=path)


@pytest.mark.parametrize("seed", [0, 5, 2**64 - 1])
def test_out_writes_the_flax_weights(files, seed):
    arrays = exported(files, "--seed", str(seed))
    bound = portinit_torch.bind(torch_net(files), recipes.torch_defaults())
    assert_written(arrays, numpy_values(bound, seed))


@pytest.mark.filterwarnings("ignore:gpt2's scale of|resnet.zero_init")  # nothing here has either
def test_out_remembers_where_the_weights_came_from(files):
    exported(files, "--seed", "5", "--recipe", "gpt2:layers=2")
    with safetensors.safe_open(files / "w.safetensors", "numpy") as file:
        assert file.metadata() == {"seed": "5", "recipe": "gpt2:layers=2"}


def test_out_replaces_a_file_and_keeps_it_where_the_port_fails(files):
    (files / "w.safetensors").write_bytes(b"old")
    assert port("flax_net.py:make_other", "--out", "w.safetensors").exit_code == 1
    assert (files / "w.safetensors").read_bytes() == b"old"
    exported(files)


def test_a_failing_port_writes_nothing(files):
    assert port("flax_net.py:make_other", "--out", "w.safetensors").exit_code == 1
    assert names_of(files) == {"torch_net.py", "flax_net.py"}


def test_a_failing_write_leaves_nothing(files, monkeypatch):
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    assert port("flax_net.py:make", "--out", "w.safetensors").exit_code != 0
    assert names_of(files) == {"torch_net.py", "flax_net.py"}


def test_a_folder_that_does_not_exist_is_refused(files):
    assert refused(port("flax_net.py:make", "--out", "gone/w.safetensors"), "gone")


def test_a_folder_is_no_file_to_write(files):
    (files / "w").mkdir()
    assert refused(port("flax_net.py:make", "--out", "w"), "w")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_out_has_the_permissions_of_any_new_file(files):
    exported(files)
    (files / "any").touch()
    assert (files / "w.safetensors").stat().st_mode == (files / "any").stat().st_mode


# --recipe


def test_a_recipe_from_a_file(files):
    recipe = Recipe([("*bias", portinit.ones), ("*", portinit.uniform(-0.5, 0.5))])
    arrays = exported(files, "--recipe", write(files / "r.json", recipe.to_json()))
    assert_written(arrays, numpy_values(portinit_torch.bind(torch_net(files), recipe), 0))


def test_a_bound_recipe_from_a_file(files):
    bound = portinit_torch.bind(torch_net(files), recipes.torch_defaults())
    arrays = exported(files, "--recipe", write(files / "r.json", bound.to_json()))
    assert_written(arrays, numpy_values(bound, 0))


@pytest.mark.filterwarnings("ignore:gpt2's scale of|resnet.zero_init")  # nothing here has either
@pytest.mark.parametrize(
    ("option", "recipe"),
    [
        ("gpt2:layers=2", recipes.gpt2(layers=2)),
        ("gpt2:layers=3,std=0.1", recipes.gpt2(layers=3, std=0.1)),
        ("gpt2: layers = 3 , std = 0.1", recipes.gpt2(layers=3, std=0.1)),
        ("vit", recipes.vit()),
        ("resnet:zero_init_residual=True", recipes.resnet(zero_init_residual=True)),
        ("flax_defaults", recipes.flax_defaults()),
        ("flax_defaults:", recipes.flax_defaults()),
    ],
)
def test_a_ready_recipe_with_arguments(files, option, recipe):
    arrays = exported(files, "--recipe", option)
    assert_written(arrays, numpy_values(portinit_torch.bind(torch_net(files), recipe), 0))


@pytest.mark.parametrize(
    "recipe",
    [
        "gtp2",
        "gpt2",
        "gpt2:layers=0",
        "gpt2:layers",
        "gpt2:layers=(",
        "gpt2:layers=x",
        "gpt2:layers='x'",
        "gpt2:depth=2",
        "gpt2:layers=__import__('os').getpid()",
        "vit:std=-1",
        "gone.json",
        "",
        ":",
    ],
)
def test_a_bad_recipe_is_refused(files, recipe):
    assert refused(port("flax_net.py:make", "--recipe", recipe), recipe.partition(":")[0])
    assert refused(run("show", "torch_net.py:make", "--recipe", recipe))


BAD_FILES = {
    "not json": b"{",
    "not a recipe": b"[]",
    "newer": b'{"portinit": 99, "rules": []}',
    "bad rule": b'{"portinit": 1, "rules": [{"name": "*", "initializer": {"init": "nope"}}]}',
    "not text": b"\xff\xfe\x00",
    "too large a number": (
        b'{"portinit": 1, "rules": [{"name": "*", "initializer": {"init": "normal", "std": 1'
        + b"0" * 400
        + b"}}]}"
    ),
}


@pytest.mark.parametrize("data", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_recipe_file_is_refused_by_name(files, data):
    (files / "r.json").write_bytes(data)
    assert refused(port("flax_net.py:make", "--recipe", "r.json"), "r.json")
    assert refused(run("show", "r.json"), "r.json")


def test_a_recipe_that_does_not_match_is_refused(files):
    recipe = write(files / "r.json", Recipe([("fc*", portinit.zeros)]).to_json())
    assert refused(port("flax_net.py:make", "--recipe", recipe), "head.weight", "up.bias")


# --names, --seed and factories


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"3",
        b'"a"',
        b'{"fc/kernel": 5}',
        b'{"fc/kernel": null}',
        b'{"fc/kernel": []}',
        b'{"fc/kernel": ["fc.weight"]}',
        b'{"fc/kernel": ["fc.weight", "keras"]}',
        b'{"fc/kernel": ["fc.weight", {"axis9": [0]}]}',
        b'{"fc/kernel": {"name": "fc.weight"}}',
        b"\xff\xfe",
    ],
)
def test_a_bad_table_of_names_is_refused_by_name(files, data):
    (files / "names.json").write_bytes(data)
    assert refused(port("flax_net.py:make", "--names", "names.json"), "names.json")


def test_a_missing_table_of_names_is_refused_by_name(files):
    assert refused(port("flax_net.py:make", "--names", "gone.json"), "gone.json")


@pytest.mark.parametrize(
    ("path", "name", "word"),
    [("gone/kernel", "fc.weight", "gone/kernel"), ("fc/kernel", "gone.weight", "fc.weight")],
)
def test_a_table_of_names_that_does_not_match_is_refused(files, path, name, word):
    names = write(files / "names.json", {path: name})
    assert refused(port("flax_net.py:make", "--names", names), word)


@pytest.mark.parametrize("seed", ["-1", str(2**64), "x", "1.5", ""])
def test_a_bad_seed_is_refused(files, seed):
    assert refused(port("flax_net.py:make", "--seed", seed), "--seed")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("torch_net.py", ["module:function"]),
        (":make", ["module:function"]),
        ("torch_net.py:", ["module:function"]),
        ("gone.py:make", ["gone.py"]),
        ("gone_module:make", ["gone_module"]),
        ("torch_net.py:gone", ["gone"]),
        ("torch_net:gone", ["gone"]),
        ("torch_net.py:not_callable", ["callable", "int"]),
    ],
)
def test_a_bad_factory_is_refused(files, factory, words):
    path = list(sys.path)
    assert refused(run("port", factory, "flax_net.py:make"), *words)
    assert refused(run("show", factory), *words)
    assert sys.path == path


@pytest.mark.parametrize("commands", [("show",), ("port", "flax_net.py:make")])
def test_an_error_of_the_users_own_is_shown_as_it_is(files, commands):
    name, *rest = commands
    result = run(name, "torch_net.py:broken", *rest)
    assert refused(result, "torch_net.py:broken raised RuntimeError: out of cheese")
    assert result.output.count("File ") == 1
    assert 'torch_net.py", line' in text(result)
    assert 'raise RuntimeError("out of cheese")' in text(result)


def test_a_factory_of_something_else_is_refused(files):
    assert refused(run("show", "torch_net.py:example_input"), "torch_net.py:example_input")
    result = run("port", "torch_net.py:example_input", "flax_net.py:make")
    assert refused(result, "torch_net.py:example_input")


def test_two_files_of_one_name_are_two_modules(files):
    for folder in ("ours", "theirs"):
        (files / folder).mkdir()
    (files / "ours" / "net.py").write_text(TORCH)
    (files / "theirs" / "net.py").write_text(FLAX)
    assert ended_well(run("port", "ours/net.py:make", "theirs/net.py:make"))


# show


def rows_of(result: click.testing.Result, bar: str) -> Iterable[list[str]]:
    lines = [line for line in result.output.splitlines() if line.startswith(bar)]
    return ([cell.strip() for cell in line.strip(bar).split(bar)] for line in lines)


def headings(result: click.testing.Result) -> list[str]:
    """A column that would be empty is left out. A long heading folds between its words."""
    return [" ".join(parts).strip() for parts in zip(*rows_of(result, "┃"), strict=True)]


def column(result: click.testing.Result, heading: str) -> str:
    number = headings(result).index(heading)
    return "".join(row[number] for row in rows_of(result, "│"))


@pytest.mark.parametrize("option", ["torch_defaults", "gpt2:layers=12", "vit:std=0.05", "resnet"])
def test_show_a_ready_recipe(option):
    name, _, arguments = option.partition(":")
    recipe = getattr(recipes, name)(**eval(f"dict({arguments})"))
    result = run("show", option)
    assert ended_well(result)
    assert column(result, "name") == "".join(rule.pattern for rule in recipe.rules)
    assert column(result, "of") == "".join(rule.kind or "" for rule in recipe.rules)


def test_show_rounds_numbers_to_four_digits():
    assert "normal(std=0.004082)" in squeezed(run("show", "gpt2:layers=12"))  # 0.02 / sqrt(24)


def test_show_a_recipe_file(files):
    recipe = Recipe([("a[[]0].weight", portinit.sparse(0.5), "rows"), ("*", portinit.eye())])
    result = run("show", write(files / "r.json", recipe.to_json()))
    assert ended_well(result)
    assert column(result, "name") == "a[0].weight*"
    assert column(result, "initializer") == "sparse(sparsity=0.5)eye()"
    assert column(result, "layout in Flax") == "rows"
    assert headings(result) == ["name", "initializer", "layout in Flax"]


@pytest.mark.parametrize("name", ["a[red]b", "a[/]b"])
def test_show_prints_names_with_brackets_as_they_are(files, name):
    bound = Recipe([("*", portinit.zeros)]).bind([portinit.Parameter(name, (2,))])
    result = run("show", write(files / "r.json", bound.to_json()))
    assert ended_well(result)
    assert column(result, "name") == name


def test_show_a_factory(files):
    result = run("show", "torch_net.py:make")
    assert ended_well(result)
    assert column(result, "name") == "fc.weightfc.biasup.weightup.biashead.weighthead.bias"
    assert column(result, "shape") == "4 x 344 x 4 x 244 x 44"
    assert column(result, "layout in Flax") == "flax_conv_transpose"
    # U(+-b) has std b / sqrt(3): b is 1/sqrt(3), then 1/sqrt(4 * 2), then 1/sqrt(4)
    assert column(result, "std") == "0.3333" * 2 + "0.2041" * 2 + "0.2887" * 2


def test_show_a_factory_with_a_recipe(files):
    recipe = Recipe([("*bias", portinit.zeros), ("*", portinit.trunc_normal(a=-2.0, b=2.0))])
    path = write(files / "r.json", recipe.to_json())
    result = run("show", "torch_net:make", "--recipe", path)
    assert ended_well(result)
    assert column(result, "std") == "0.8796" * 3  # of a normal cut at two deviations


def test_show_lists_what_a_recipe_lacks(files):
    recipe = write(files / "r.json", Recipe([("fc*", portinit.zeros)]).to_json())
    assert refused(run("show", "torch_net.py:make", "--recipe", recipe), "head.weight", "up.bias")


def test_show_names_rules_of_a_file_that_match_nothing(files):
    rules = Recipe([("*.wieght", portinit.zeros), ("fc.weight", portinit.ones)])
    path = write(files / "r.json", (rules + recipes.torch_defaults()).to_json())
    for factory in ("torch_net.py:make", "flax_net.py:make"):
        result = run("show", factory, "--recipe", path)
        assert ended_well(result)
        assert "rules that match nothing: *.wieght\n" in result.output
    fitting = Recipe([("*.weight", portinit.ones)]) + recipes.torch_defaults()
    path = write(files / "r.json", fitting.to_json())
    assert "match nothing" not in run("show", "torch_net.py:make", "--recipe", path).output
    assert "match nothing" not in run("show", "torch_net.py:make").output


OWN = """
import torch, flax.linen, jax.numpy as jnp
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cls_token = torch.nn.Parameter(torch.zeros(1, 1, 4))
        self.fc = torch.nn.Linear(4, 4)
class Linen(flax.linen.Module):
    @flax.linen.compact
    def __call__(self, x):
        token = self.param("cls_token", flax.linen.initializers.zeros, (1, 1, 4))
        return flax.linen.Dense(4, name="fc")(x) + token
def example_input():
    return jnp.ones((1, 4))
"""


def test_show_says_how_a_models_own_parameter_gets_a_rule(files):
    write(files / "own.py", OWN)
    said = "The recipe is torch_defaults; it has no rule", "--recipe", 'portinit.Rule("cls_token",'
    torchs = run("show", "own.py:Net")
    assert refused(torchs, "cls_token (1, 1, 4): no rule matches it", *said)
    assert "portinit trace own.py:Net" in torchs.output
    assert ended_well(run("trace", "own.py:Net"))
    flaxs = run("show", "own.py:Linen")
    assert refused(flaxs, "cls_token", *said)
    assert "portinit trace" not in flaxs.output
    recipe = portinit.Recipe([portinit.Rule("cls_token", portinit.normal(std=0.02))])
    path = write(files / "r.json", (recipe + recipes.torch_defaults()).to_json())
    assert ended_well(run("show", "own.py:Net", "--recipe", path))
    assert ended_well(run("show", "own.py:Linen", "--recipe", path))


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_show_a_factory_in_a_module_called_like_a_ready_recipe(files, name):
    (files / f"{name}.py").write_text(TORCH)
    assert ended_well(run("show", f"{name}.py:make"))
    assert ended_well(run("show", f"{name}:make"))


UNUSUAL = {
    "far in the tail": portinit.trunc_normal(a=10.0, b=11.0),
    "does not suit": portinit.kaiming_normal(),
}


@pytest.mark.parametrize("initializer", UNUSUAL.values(), ids=UNUSUAL)
def test_show_prints_a_recipe_whose_deviation_it_cannot_compute(files, initializer):
    bound = Recipe([("*", initializer)]).bind([portinit.Parameter("a", (3,))])
    result = run("show", write(files / "r.json", bound.to_json()))
    assert ended_well(result)
    assert column(result, "name") == "a"
