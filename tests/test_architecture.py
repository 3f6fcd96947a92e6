"""The house: who may import whom, that the core loads no framework, and the style checks."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = ROOT / "src" / "portinit"

# A module imports only what stands before it. cli may import everything.
ORDER = [
    "machine",
    "threefry",
    "keys",
    "dtypes",
    "arrays",
    "bits",
    "fixed",
    "quantile",
    "steps",
    "samples",
    "truncated",
    "logarithm",
    "layouts",
    "grids",
    "fused",
    "backends",
    "base",
    "fans",
    "gains",
    "schemes",
    "initializers",
    "structured",
    "combinators",
    "files",
    "given",
    "layers",
    "recurrent",
    "jax_stream",
    "torch_stream",
    "operations",
    "program",
    "expressions",
    "serial",
    "names",
    "replay",
    "rules",
    "display",
    "text",
    "recipe",
    "packed",
    "transfer",
    "recurrent_recipes",
    "recipes",
    "probes",
    "__init__",
    "checkpoints",
    "proof",
    "testing",
    "report",
    "cli",
]

FRAMEWORKS = ["torch", "jax", "flax", "scipy", "numba", "click", "rich", "ml_dtypes"]
ADAPTERS = {"portinit_torch", "portinit_jax", "portinit_flax"}
# Loaded when something of theirs is at hand, never by ``import portinit``.
LAZY = {*FRAMEWORKS, *ADAPTERS, "safetensors", "jsonschema", "matplotlib"}
DEPENDENCIES = {"numpy", "array_api_compat", "portinit"}


def modules_of_the_core() -> list[str]:
    """Dotted names below portinit: ``quantile``, ``recipes.gpt2``."""
    paths = [path.relative_to(CORE).with_suffix("") for path in CORE.rglob("*.py")]
    return sorted(".".join(path.parts) for path in paths)


def bound_modules() -> list[str]:
    """Those that the order binds: all but cli's."""
    return [module for module in modules_of_the_core() if module.partition(".")[0] != "cli"]


def path_of(module: str) -> Path:
    return CORE.joinpath(*module.split(".")).with_suffix(".py")


def place_of(module: str) -> int:
    """A package's modules stand where the package stands."""
    top = module.partition(".")[0]
    if top not in ORDER:
        pytest.fail(
            f"portinit.{module} has no place: name {top!r} in ORDER of {Path(__file__).name}, "
            "right of all it imports"
        )
    return ORDER.index(top)


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of imported modules, those imported inside functions among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where a module stands"
            yield from _imports_from(node.module or "", [alias.name for alias in node.names])


def _imports_from(module: str, names: list[str]) -> Iterator[str]:
    """``from portinit import layers`` imports a module; ``from portinit import key`` does not."""
    known = set(modules_of_the_core())
    within = module.partition(".")[2]
    if module.partition(".")[0] != "portinit" or within in known:
        yield module
        return
    for name in names:
        inner = f"{within}.{name}".lstrip(".")
        yield f"portinit.{inner}" if inner in known else module


def portinits(source: str) -> set[str]:
    """The core's modules that a source imports."""
    found = {name for name in imports(ast.parse(source)) if name.partition(".")[0] == "portinit"}
    return {name.partition(".")[2] or "__init__" for name in found}


def import_time(tree: ast.Module) -> Iterator[str]:
    """Top-level names of what is imported when the module is, not in functions or for types."""
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.partition(".")[0] for name in imports(node))


@pytest.mark.parametrize("module", bound_modules())
def test_a_module_imports_only_what_stands_to_its_left(module: str) -> None:
    package = module.partition(".")[0]
    for other in portinits(path_of(module).read_text("utf-8")):
        if other.partition(".")[0] == package:
            continue  # a package's modules may import one another
        assert place_of(other) < place_of(module), f"portinit.{module} imports portinit.{other}"


@pytest.mark.parametrize("module", bound_modules())
def test_a_module_needs_no_more_than_the_dependencies(module: str) -> None:
    needed = set(import_time(ast.parse(path_of(module).read_text("utf-8"))))
    foreign = needed - DEPENDENCIES - set(sys.stdlib_module_names)
    assert not foreign, f"portinit.{module} imports {foreign} when it is imported"


def test_the_order_names_no_module_twice() -> None:
    assert len(set(ORDER)) == len(ORDER)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import portinit.keys", {"keys"}),
        ("from portinit.keys import key", {"keys"}),
        ("from portinit import layers, key", {"layers", "__init__"}),
        ("def f():\n    import portinit.base", {"base"}),
        ("import numpy", set()),
    ],
)
def test_imports_are_found(source: str, found: set[str]) -> None:
    assert portinits(source) == found


# What is loaded, seen from a fresh interpreter


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_core_loads_no_framework() -> None:
    names = [f"portinit.{m}".removesuffix(".__init__") for m in bound_modules()]
    loaded = loaded_after(f"import portinit, {', '.join(names)}")
    assert "numpy" in loaded
    assert not loaded & LAZY


def test_drawing_in_numpy_loads_no_framework() -> None:
    draw = "import portinit\nportinit.he_normal()(portinit.key(0), (3, 4), 'float16')"
    assert not loaded_after(draw) & LAZY


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_is_loaded_is_seen(framework: str) -> None:
    # The proof is itself proved: without this, a check that sees nothing would pass.
    assert framework in loaded_after(f"import portinit, {framework}")


# Style

TOOLS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
}


@pytest.mark.parametrize("command", TOOLS.values(), ids=TOOLS)
def test_the_code_passes(command: list[str]) -> None:
    result = run(sys.executable, *command)
    assert result.returncode == 0, result.stdout + result.stderr
