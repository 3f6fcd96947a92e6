"""An atlas of how real models start: build, trace, replay and compare what libraries offer.

    python tools/atlas.py --raw atlas.jsonl --out docs/_static/atlas.json --page docs/atlas.md
    python tools/atlas.py --raw atlas.jsonl --only BertModel GPT2Model
    python tools/atlas.py --raw sample.jsonl --sample 60 --seed 2026-48

Each architecture is built small, in a process of its own with limits of time and memory, which is
forked after the libraries are imported. Its result is a line of the raw file; a run goes on where
an earlier one ended. The JSON and the page are made of all lines, and dated.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import multiprocessing
import os
import platform
import random
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from tools.atlas_look import look_at
from tools.atlas_models import architectures, family_of
from tools.atlas_page import page, to_data, to_text

WAIT = 8
"""How many times its limit of processor time a process may take by the clock."""


def in_a_process(name: str, library: str, seconds: float, gigabytes: float) -> dict[str, Any]:
    """The result for an architecture, looked at in a process of its own.

    Args:
        name: of the architecture.
        library: that has it.
        seconds: of processor time at most.
        gigabytes: of address space at most.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, name, library, seconds, gigabytes))
    process.start()
    sender.close()
    result = None
    if receiver.poll(seconds * WAIT):
        try:
            result = receiver.recv()
        except EOFError:  # it was ended by a limit
            process.join()
    if process.is_alive() and result is None:
        process.kill()
    process.join()
    if result is not None:
        return dict(result)
    why = f"it ended with {process.exitcode}, within {seconds:g} seconds and {gigabytes:g} GB"
    return {"name": name, "library": library, "state": "unbuilt", "why": why}


def _send(sender: Any, name: str, library: str, seconds: float, gigabytes: float) -> None:
    size, soft = int(gigabytes * 2**30), max(1, int(seconds))
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (soft, soft + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sender.send(look_at(name, library))


def warm_up() -> None:
    """Import and run once what every process needs, in one thread."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    import portinit_torch

    torch.set_num_threads(1)
    portinit_torch.trace(lambda: torch.nn.Linear(300, 300)).replay(0)
    if "transformers" in architectures().values():
        import transformers.modeling_utils  # noqa: F401


def header() -> dict[str, Any]:
    """When and with what the atlas is made."""
    names = ("torch", "transformers", "timm", "torchvision", "numpy", "mkl")
    versions = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name).partition("+")[0]
    today = dt.datetime.now(dt.UTC).date().isoformat()
    return {"date": today, "processor": processor(), "versions": versions}


def processor() -> str:
    """The instruction set that PyTorch uses, which decides MKL's last bits."""
    import torch

    return f"{platform.machine()} with {torch.backends.cpu.get_cpu_capability()}"


def read(raw: Path) -> dict[str, dict[str, Any]]:
    """The results of a raw file by name, the last of each."""
    lines = raw.read_text().splitlines() if raw.exists() else []
    return {result["name"]: result for result in map(json.loads, lines)}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of architectures; all by default")
    parser.add_argument("--library", choices=("transformers", "timm", "torchvision"))
    parser.add_argument("--sample", type=int, help="as many of them, by chance")
    parser.add_argument("--seed", default="", help="of the sample: a date")
    parser.add_argument("--seconds", type=float, default=120, help="of processor time for each")
    parser.add_argument("--gigabytes", type=float, default=8, help="of address space for each")
    parser.add_argument("--again", nargs="*", default=[], help="states that are looked at anew")
    parser.add_argument("--out", type=Path, help="the JSON of all results")
    parser.add_argument("--page", type=Path, help="the page, in Markdown")
    parser.add_argument("--raw", type=Path, default=Path("atlas.jsonl"), help="a result a line")
    given = parser.parse_args()
    warm_up()
    every = architectures()
    names = given.only or sorted(n for n in every if given.library in (None, every[n]))
    if given.sample:
        names = sorted(random.Random(given.seed).sample(names, min(given.sample, len(names))))
    done = read(given.raw)
    for name in names:
        if name in done and done[name]["state"] not in given.again:
            continue
        result = in_a_process(name, every[name], given.seconds, given.gigabytes)
        done[name] = result
        with given.raw.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{result['state']:10} {name} {result.get('why', '')}", flush=True)
    if given.out:
        results = [r | {"family": family_of(r["name"], r["library"])} for r in done.values()]
        data = to_data(results, header())
        given.out.write_text(to_text(data))
        if given.page:
            given.page.write_text(page(data))
    wrong = [name for name in names if done[name]["state"] == "wrong"]
    if wrong:
        sys.exit("values were wrong in silence: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
