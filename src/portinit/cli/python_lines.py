"""Python that fills a model as a command did, to paste."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portinit.arrays.convert import to_numpy
from portinit.cli.porting import FilledPair, Port, Task
from portinit.probes.inputs import is_array
from portinit.recipes.matching.request import MatchRequest
from portinit.recipes.matching.result import Matching
from portinit.recipes.matching.tables.files import Names


@dataclass(frozen=True)
class Options:
    """Options of a command, as the user wrote them.

    Attributes:
        recipe: a JSON file or a ready recipe with its arguments.
        names: a JSON file.
        twin_input: the factory of the twin's example input.
        channels_last: whether the twin's input is PyTorch's with its channels last.
    """

    recipe: str | None = None
    names: str | None = None
    twin_input: str | None = None
    channels_last: bool = False


def python_lines(done: Port, task: Task, options: Options) -> list[str]:
    """Lines of Python that fill the twin with the weights that ``port`` gave it.

    A twin that is more than what its factory returns, such as the variables of a linen module,
    has a method ``python(made, inputs)`` with the lines that make ``model``: from the name of the
    factory and from the example input as it is written in a call.
    """
    pair = done.pair
    body = [*_recipe_lines(pair, task, options), *_model_lines(pair, task, options)]
    table, request = _table(pair, task, options)
    given = {"names": table, "stacked": dict(request.stacked), "ignore": [*request.ignore]}
    if table is not None:
        body.append(f"names = {table}")
        given["names"] = "names"
    extra = [f"{name}={value}" for name, value in given.items() if value]
    call = ", ".join(["model", "recipe", "key", *extra])
    body.append(f"model = {pair.twin.adapter}.initialize({call})")
    return [*_imports(pair, task, options, "\n".join(body)), *body]


def _imports(pair: FilledPair, task: Task, options: Options, body: str) -> Iterator[str]:
    """Imports of what the body uses, and of the factories."""
    named = [(task.torch_name, "make_torch"), (task.twin_name, "make_model")]
    if "example_input()" in body:
        beside = task.twin_name.rpartition(":")[0]
        named.append((options.twin_input or f"{beside}:example_input", "example_input"))
    folders = dict.fromkeys(_folder(target) for target, _ in named)
    paths = [f"sys.path.insert(0, {folder!r})" for folder in folders if folder]
    factories = [_imported(*one) for one in named]
    body = "\n".join([body, *paths, *factories])
    for name in ("importlib", "json", "sys"):
        if f"{name}." in body:
            yield f"import {name}"
    if "Path(" in body:
        yield "from pathlib import Path"
    for name, alias in (("jax", "jax"), ("numpy as np", "np")):
        if f"{alias}." in body:
            yield f"import {name}"
    yield f"import portinit, portinit_torch, {pair.twin.adapter}"
    yield from (*paths, *factories)


def _folder(target: str) -> str:
    """The folder of a factory's file, where it is not the current one."""
    where = target.rpartition(":")[0]
    folder = str(Path(where).parent) if where.endswith(".py") else "."
    return "" if folder == "." else folder


def _imported(target: str, name: str) -> str:
    where, _, attribute = target.rpartition(":")
    module = Path(where).stem if where.endswith(".py") else where
    if all(part.isidentifier() for part in module.split(".")):
        renamed = "" if attribute == name else f" as {name}"
        return f"from {module} import {attribute}{renamed}"
    return f"{name} = importlib.import_module({module!r}).{attribute}"


def _recipe_lines(pair: FilledPair, task: Task, options: Options) -> Iterator[str]:
    yield f"key = portinit.key({0 if task.replay is not None else task.seed})"
    if pair.is_traced:
        yield "recipe = portinit_torch.trace(make_torch)"
    else:
        yield f"recipe = portinit_torch.bind(make_torch(), {_written_recipe(options.recipe)})"
    if task.replay is not None:
        yield f"recipe = recipe.with_values(recipe.replay({task.replay}))"
    if pair.has_one_bias:
        yield "recipe = portinit.sum_biases(recipe, key)"


def _written_recipe(text: str | None) -> str:
    if text is None:  # PyTorch's constructor cannot be traced
        return "portinit.recipes.torch_defaults()"
    if text.endswith(".json"):
        return f"portinit.Recipe.from_json({_read(text)})"
    name, _, arguments = text.partition(":")
    return f"portinit.recipes.{name}({arguments.replace(',', ', ')})"


def _read(path: str) -> str:
    return f'Path({path!r}).read_text(encoding="utf-8")'


def _model_lines(pair: FilledPair, task: Task, options: Options) -> list[str]:
    python = getattr(pair.twin, "python", None)
    if python is None:
        return ["model = make_model()"]
    lines: list[str] = python("make_model", _written_inputs(task.twin_input, options))
    return lines


def _written_inputs(inputs: Any, options: Options) -> str:
    """The example input as a call has it: by its factory, or zeros where that gives another."""
    if options.channels_last:
        if isinstance(inputs, Mapping):
            named = (f"{name!r}: {_zeros(value)}" for name, value in inputs.items())
            return f"**{{{', '.join(named)}}}"
        return ", ".join(map(_zeros, inputs if isinstance(inputs, tuple) else (inputs,)))
    stars = "*" if isinstance(inputs, tuple) else "**" if isinstance(inputs, Mapping) else ""
    return f"{stars}example_input()"


def _zeros(value: Any) -> str:
    if not is_array(value):
        return repr(value)
    array = to_numpy(value)
    return f'np.zeros({array.shape}, "{array.dtype}")'


def _table(pair: FilledPair, task: Task, options: Options) -> tuple[str | None, MatchRequest]:
    """The table of names that a call needs, as Python, and what else is asked of the matching.

    Forward passes may have told what names do not; a call without inputs needs that in words.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pairs that are guessed
        plain = pair.twin.match(pair.recipe, task.request, strict=False)
    if _told(plain) == _told(pair.matching):
        return (_read_table(options.names) if options.names else None), task.request
    table = pair.matching.as_table()
    lines = (f"    {path!r}: {target!r}," for path, target in json.loads(_entries(table)).items())
    return "\n".join(["{", *lines, "}"]), MatchRequest.of(
        None, task.request.stacked, (*table.ignore, *task.request.ignore)
    )


def _read_table(path: str) -> str:
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    is_bare = Names.from_json(json.dumps(data)).entries == data
    return f"json.loads({_read(path)})" + ("" if is_bare else '["names"]')


def _entries(table: Names) -> str:
    return Names(table.entries).to_json()


def _told(matching: Matching) -> dict[str, tuple[str, Any]]:
    return {pair.path: (str(pair.parameter), pair.layout) for pair in matching.pairs}
