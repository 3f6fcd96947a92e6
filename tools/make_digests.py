"""Compute the digests of NumPy's cells that ``portinit verify`` compares with, and write them.

    python tools/make_digests.py

A digest that changes is a change of what users' keys give.
"""

from __future__ import annotations

import json
from pathlib import Path

import portinit.verify.digests as digests
from portinit.cli.files import write_atomically


def main() -> None:
    text = json.dumps(digests.computed(), indent=0, sort_keys=True)
    write_atomically(Path(digests.__file__).with_name(digests.FILE), f"{text}\n".encode())


if __name__ == "__main__":
    main()
