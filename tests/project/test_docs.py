"""The documentation runs: every Python block, command, doctest and relative link.

A page's ``python``, ``pycon`` and ``console`` blocks run in order, in one namespace and one empty
folder. A Python block whose first line is ``# name.py`` is a file of that name: it is saved and
imported, and gives the page no names. Of a command's output, ``...`` stands for anything. A
translated page has the code of its original, comments apart, and so need not run again.
"""

import ast
import doctest
import importlib
import pkgutil
import re
import shlex
import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from click.testing import CliRunner

from portinit.cli.commands import portinit as command_line

ROOT = Path(__file__).parents[2]
CHINESE = sorted((ROOT / "docs" / "zh").glob("*.md"))
ORIGINALS = {"index.md": "start.md"}  # where the name is another
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ABRIDGED = {"recurrent.md", "tracing.md"}  # translations that leave something out
OTHERS = [*CHINESE, *sorted((ROOT / "docs" / "api").glob("*.md"))]
OTHERS += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
WITHOUT_CODE = {"atlas.md", "glossary.md", "guarantees.md"}
PACKAGES = ("portinit", "portinit_torch", "portinit_jax", "portinit_flax", "portinit_keras")
PACKAGES += ("portinit_equinox", "portinit_haiku", "portinit_mlx")
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def by_xla() -> None:
    """Nobody decides who makes JAX's arrays: as in a user's process."""


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text and the line that its text begins on."""

    language: str
    text: str
    line: int


FENCE = re.compile(r"^```([\w{}-]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(text: str) -> list[Block]:
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start(2)) + 1)
        for found in FENCE.finditer(text)
    ]


@pytest.fixture
def page_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """An empty module, in an empty folder; whatever the page's own files import is forgotten."""
    module = ModuleType("documentation_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("COLUMNS", "98")
    yield module
    for file in tmp_path.glob("*.py"):
        sys.modules.pop(file.stem, None)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_a_page_runs(page: Path, page_module: ModuleType) -> None:
    ran = 0
    for block in blocks(page.read_text("utf-8")):
        run = {"python": run_python, "pycon": run_session, "console": run_console}
        if block.language in run:
            run[block.language](block, page, page_module)
            ran += 1
    assert bool(ran) != (page.name in WITHOUT_CODE), f"{page.name} has {ran} blocks that run"


FILE_NAME = re.compile(r"# (\w+\.py)\n")


def run_python(block: Block, page: Path, module: ModuleType) -> None:
    if name := FILE_NAME.match(block.text):
        Path(name[1]).write_text(block.text, "utf-8")
        importlib.invalidate_caches()
        importlib.import_module(Path(name[1]).stem)
        return
    source = "\n" * (block.line - 1) + block.text
    exec(compile(source, str(page), "exec"), vars(module))


def code(block: Block) -> tuple[str, str, str]:
    """A block's language, the name it is saved under, and its text or, for Python, its syntax."""
    name = FILE_NAME.match(block.text)
    python = block.language == "python"
    return (
        block.language,
        name[1] if name else "",
        ast.dump(ast.parse(block.text)) if python else block.text,
    )


@pytest.mark.parametrize("page", CHINESE, ids=ids)
def test_a_translation_has_the_code_of_its_original(page: Path) -> None:
    original = ROOT / "docs" / ORIGINALS.get(page.name, page.name)
    found, wanted = ([*map(code, blocks(p.read_text("utf-8")))] for p in (page, original))
    left = iter(wanted)
    assert all(block in left for block in found), "its code is not the original's, in its order"
    assert len(found) == len(wanted) or page.name in ABRIDGED


def run_session(block: Block, page: Path, module: ModuleType) -> None:
    parser = doctest.DocTestParser()
    session = parser.get_doctest(block.text, vars(module), page.name, str(page), block.line - 1)
    session.globs = vars(module)
    check(doctest.DocTestRunner(optionflags=FLAGS), session)


def check(runner: doctest.DocTestRunner, session: doctest.DocTest) -> None:
    report: list[str] = []
    runner.run(session, out=report.append, clear_globs=False)
    assert not runner.failures, "".join(report)


def run_console(block: Block, page: Path, module: ModuleType) -> None:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        typed, _, wanted = re.sub(r" \\\n *", " ", part).partition("\n")
        program, *arguments = shlex.split(typed)
        assert program == "portinit", f"{page.name}:{block.line}: {program} is not run here"
        result = CliRunner().invoke(command_line, arguments, prog_name="portinit")
        assert result.exit_code == 0, f"{typed}: {result.output}{result.exception!r}"
        if wanted.strip():
            same = doctest.OutputChecker().check_output(wanted, result.output, FLAGS)
            assert same, f"{typed} printed\n{result.output}"


def modules() -> Iterator[str]:
    for name in PACKAGES:
        yield name
        package = importlib.import_module(name)
        for found in pkgutil.walk_packages(package.__path__, f"{name}."):
            yield found.name


@pytest.mark.parametrize("name", [*modules()])
def test_the_docstrings_examples_run(name: str) -> None:
    if "triton" in name:
        pytest.importorskip("triton", reason="Triton comes with torch's builds for GPUs")
    for session in doctest.DocTestFinder().find(importlib.import_module(name)):
        check(doctest.DocTestRunner(optionflags=FLAGS), session)


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """The ids that a heading gets on the hosting sites: lower case, hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=ids)
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(linked), f"{linked.name} has no heading {anchor}"


@pytest.mark.parametrize("page", PAGES + OTHERS, ids=ids)
def test_lines_are_short(page: Path) -> None:
    lines = page.read_text("utf-8").splitlines()
    long = [n for n, line in enumerate(lines, 1) if columns(line) > 100]
    assert not long, f"lines of more than 100 columns: {long}"


def columns(line: str) -> int:
    """A line's width in an editor, where a Chinese character takes two columns."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@pytest.mark.parametrize("page", CHINESE, ids=ids)
def test_chinese_lines_end_in_punctuation(page: Path) -> None:
    """Where a page is shown with a space for a line's end, it is one that does not disturb."""
    lines = FENCE.sub("", page.read_text("utf-8")).splitlines()
    for line, following in pairwise(lines):
        if line and re.match(r"(?![-|#])\s*\S", following):
            assert line.rstrip("*")[-1] in "，。：；、", line  # noqa: RUF001


# The tests above can fail


def test_a_wrong_output_is_seen(page_module: ModuleType) -> None:
    page = ROOT / "README.md"
    with pytest.raises(AssertionError, match="printed"):
        run_console(Block("console", "$ portinit --version\nportinit 9\n", 1), page, page_module)
    with pytest.raises(AssertionError, match="is not run here"):
        run_console(Block("console", "$ pip list\n", 1), page, page_module)
    with pytest.raises(AssertionError, match="Expected"):
        run_session(Block("pycon", ">>> 1 + 1\n3\n", 1), page, page_module)
    with pytest.raises(ZeroDivisionError):
        run_python(Block("python", "1 / 0\n", 1), page, page_module)


def test_only_comments_may_be_translated() -> None:
    block, translated = Block("python", "x = 1  # one\n", 1), Block("python", "x = 1  # 一\n", 9)
    assert code(block) == code(translated)
    assert code(block) != code(Block("python", "x = 2  # one\n", 1))
    assert code(Block("python", "# a.py\nx = 1\n", 1)) != code(Block("python", "x = 1\n", 1))
    assert code(Block("console", "$ a\n", 1)) != code(Block("console", "$ b\n", 1))


def test_wide_characters_take_two_columns() -> None:
    assert columns("权重 = w") == 8


def test_blocks_are_found_where_they_are() -> None:
    text = "a\n\n```python\nx = 1\n```\n\n```\nplain\n```\n"
    assert blocks(text) == [Block("python", "x = 1\n", 4), Block("", "plain\n", 8)]
