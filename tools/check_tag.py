"""Check that a release's tag is its version: ``python tools/check_tag.py v0.1.0``."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = {
    "src/portinit/__init__.py": r'^__version__ = "([^"]+)"$',
    "CITATION.cff": r"^version: (\S+)$",
}


def mismatches(tag: str) -> list[str]:
    """The files whose version is not the tag's."""
    found = []
    for name, pattern in VERSIONS.items():
        match = re.search(pattern, (ROOT / name).read_text("utf-8"), re.MULTILINE)
        version = match[1] if match else "no version"
        if tag != f"v{version}":
            found.append(f"{name} has {version}, and the tag is {tag}")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(mismatches(sys.argv[1])) or 0)
