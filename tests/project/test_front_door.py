"""What a contributor meets first: the public CI, the release's tag, the citation."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from tools import check_tag, oldest_constraints

import portinit

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(workflow: Path) -> list[str]:
    """The commands that a workflow runs."""
    jobs = yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_is_there(workflow: Path) -> None:
    commands = steps(workflow)
    assert commands
    for path in re.findall(r"\b(?:tools|tests)/[\w/.]*", " ".join(commands)):
        assert (ROOT / path).exists(), path
    extras = {
        e for names in re.findall(r"\.\[([\w,]+)\]", " ".join(commands)) for e in names.split(",")
    }
    assert extras <= PYPROJECT["project"]["optional-dependencies"].keys()


def test_ci_tests_every_python_that_the_package_names() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    tested = {row["python"] for row in jobs["tests"]["strategy"]["matrix"]["include"]}
    prefix = "Programming Language :: Python :: 3."
    named = {
        c.rpartition(" ")[2] for c in PYPROJECT["project"]["classifiers"] if c.startswith(prefix)
    }
    assert tested == named
    assert f">={min(named)}" == PYPROJECT["project"]["requires-python"]


def test_the_oldest_versions_are_those_of_the_bounds() -> None:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = dict(line.split("==") for line in oldest_constraints.oldest(text))
    assert found.keys() == set(oldest_constraints.FRAMEWORKS)
    assert f'"torch>={found["torch"].removesuffix(".*")}"' in text


def test_a_tag_must_be_the_version() -> None:
    assert check_tag.mismatches(f"v{portinit.__version__}") == []
    assert len(check_tag.mismatches("v999.0.0")) == len(check_tag.VERSIONS)
    assert check_tag.mismatches(portinit.__version__)  # without the v


def test_the_linter_is_the_same_everywhere() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    revisions = [repo["rev"] for repo in hooks if "ruff" in repo["repo"]]
    pinned = re.search(
        r"^ruff==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE
    )
    assert pinned
    assert revisions == [f"v{pinned[1]}"]


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml")))
def test_an_issue_form_asks_for_what_is_needed(form: Path) -> None:
    fields = {part["id"]: part for part in yaml.safe_load(form.read_text("utf-8"))["body"]}
    assert fields["doctor"]["validations"]["required"]


def test_mutants_are_made_of_modules_that_are_there() -> None:
    settings = PYPROJECT["tool"]["mutmut"]
    tests = (name.partition("::")[0] for name in settings["pytest_add_cli_args_test_selection"])
    missing = [name for name in (*settings["only_mutate"], *tests) if not (ROOT / name).is_file()]
    assert not missing
