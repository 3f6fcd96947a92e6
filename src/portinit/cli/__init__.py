"""The command line, ``portinit``: the last of the layers, over the core and the adapters."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, or say which extra brings what it needs."""
    try:
        from portinit.cli.commands import portinit
    except ImportError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit(f"portinit's command line needs {error.name}: pip install 'portinit[cli]'")
    portinit()
