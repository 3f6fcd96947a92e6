"""Print the oldest versions that pyproject.toml allows, as a constraints file for pip."""

import re
import tomllib
from pathlib import Path

FRAMEWORKS = ("numpy", "array-api-compat", "torch", "jax", "flax")


def oldest(pyproject: str) -> list[str]:
    """``numpy==2.1.*`` for ``numpy>=2.1``, for each framework."""
    project = tomllib.loads(pyproject)["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(line for lines in extras.values() for line in lines)]
    found = []
    for name in FRAMEWORKS:
        bounds = [m[1] for line in needed if (m := re.fullmatch(rf"{name}>=([\d.]+)", line))]
        version = bounds[0]
        found.append(f"{name}=={version}" if version.count(".") > 1 else f"{name}=={version}.*")
    return found


if __name__ == "__main__":
    print("\n".join(oldest((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))))
