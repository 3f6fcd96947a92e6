"""The atlas as data and as a page: what is counted, how each family starts, what is unusual.

python tools/atlas_page.py docs/_static/atlas.json docs/atlas.md   # the page, of the data
"""

from __future__ import annotations

import collections
import json
import re
import statistics
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Entry = dict[str, Any]
Group = tuple[str, str, int, str]
"""Tensors that start alike: their role, the initializer in words, how many, and one's name."""

STATES = {
    "identical": "every tensor is PyTorch's, bit for bit",
    "near": "the last bits of some are not, and the trace names them",
    "lost": "some are not carried, and the trace names them",
    "wrong": "some differ and are not named",
    "untraced": "the trace refuses",
    "unbuilt": "not built here",
}
SECONDS = 0.05
"""Models that take less to build are left out of the comparison of times."""

_MOST_LISTED = 12


# Data


def to_data(results: Iterable[Mapping[str, Any]], header: Mapping[str, Any]) -> Entry:
    """All results, compactly: a text stands once, and is referred to by its number."""
    roles: dict[str, int] = {}
    initializers: dict[str, int] = {}
    entries = {}
    for result in sorted(results, key=lambda result: str(result["name"])):
        entry = {key: result[key] for key in _KEPT if result.get(key)}
        if "starts" in result:
            entry["starts"] = [
                [
                    roles.setdefault(role := _role(s), len(roles)),
                    initializers.setdefault(_short(s["initializer"]), len(initializers)),
                    *(s["count"], *s["names"][: _is_unusual(role, s["initializer"])]),
                ]
                for s in result["starts"]
                if s["role"] != "buffer"
            ]
            entry["by_layer"] = _by_layer(result["starts"])
            entry["by_depth"] = [d for d in result["by_depth"] if not 0.8 < d["ratio"] < 1.25]
            entry["seconds"] = [result["seconds"][key] for key in ("build", "trace", "replay")]
        entries[result["name"]] = {key: value for key, value in entry.items() if value}
    texts = {"roles": list(roles), "initializers": list(initializers)}
    return {**header, **texts, "architectures": entries}


def _role(start: Mapping[str, Any]) -> str:
    """A group's role; norms of the model's own are told by their names."""
    role = str(start["role"])
    named = all(re.search(r"norm|ln_|layrnorm", name.lower()) for name in start["names"])
    return role.replace("other", "norm") if role.startswith("other ") and named else role


def _is_unusual(role: str, initializer: str) -> bool:
    """Whether a name is worth its place: neither a bias nor what most models have."""
    if role.endswith("bias") or initializer in ("ones()", "normal(std=0.02)"):
        return False
    return initializer != "trunc_normal(std=0.02)"


_KEPT = (
    "library",
    "family",
    "size",
    "state",
    "why",
    "tensors",
    "elements",
    "lost",
    "near",
    "wrong",
)


def _by_layer(starts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names without numbers whose tensors have more than two initializers: one for each layer."""
    count = collections.Counter(
        name
        for s in starts
        if is_weight(s["role"], *LINEAR) and "normal(" in s["initializer"]
        for name in s["names"]
    )
    return [name for name, n in count.items() if n > 2][:3]


def _short(initializer: str) -> str:
    """An initializer's text with four digits of each number."""
    return re.sub(r"\d+\.\d{5,}(e-?\d+)?", lambda m: f"{float(m[0]):.4g}", initializer)


def to_text(data: Entry) -> str:
    """The JSON, an architecture a line."""
    head = {key: value for key, value in data.items() if key != "architectures"}
    lines = [
        f"{json.dumps(name)}:{json.dumps(entry, separators=(',', ':'))}"
        for name, entry in data["architectures"].items()
    ]
    opening = json.dumps(head, separators=(",", ":"))[:-1]
    return f'{opening},"architectures":{{\n' + ",\n".join(lines) + "\n}}\n"


# Words


def in_words(initializer: str) -> str:
    """An initializer in a few words."""
    text = initializer.removesuffix(" (shortened)")
    if match := re.fullmatch(r"where\(index=\((\d+),\), inside=zeros\(\), outside=(.*)\)", text):
        return f"{in_words(match[2])} with row {match[1]} at 0"
    for pattern, words in _WORDS:
        if match := re.fullmatch(pattern, text):
            return match.expand(words)
    name = text.partition("(")[0]
    if name in ("exp", "log", "add", "mul", "div", "sub", "neg", "clamp", "") or text[:1] == "(":
        return "an expression of draws"
    return text if len(text) <= 44 else f"{name}(…)"


_WORDS = [
    (r"zeros\(\)", "0"),
    (r"ones\(\)", "1"),
    (r"constant\(val=(.*)\)", r"\1"),
    (r"kaiming_uniform\(a=2.236\)", "PyTorch's default"),
    (r"fan_in_uniform\(.*\)", "PyTorch's default"),
    (r"normal\(\)", "normal 1"),
    (r"normal\(std=([^,]*)\)", r"normal \1"),
    (r"trunc_normal\(std=([^,]*)(, a=.*)?\)", r"truncated normal \1"),
    (r"assigned\((.*)\)", "a table"),
    (r"kaiming_(\w+)\(mode='fan_out', nonlinearity='relu'\)", r"kaiming \1 by fan_out"),
    (r"kaiming_(\w+)\(nonlinearity='relu'\)", r"kaiming \1"),
    (r"kaiming_(\w+)\(nonlinearity='linear'\)", r"kaiming \1 of gain 1"),
    (r"xavier_(\w+)\(\)", r"xavier \1"),
    (r"xavier_(\w+)\(gain=(.*)\)", r"xavier \1 of gain \2"),
    (r"unavailable\(.*", "not carried"),
]


def counted(groups: Iterable[tuple[str, int]], most: int = 3) -> str:
    """Words with how often each is used, the most frequent first."""
    total = collections.Counter[str]()
    for words, count in groups:
        total[words] += count
    parts = [words if len(total) == 1 else f"{words} ({n})" for words, n in total.most_common(most)]
    more = len(total) - most
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def is_weight(role: str, *kinds: str) -> bool:
    """Whether a role is the weight of one of these kinds of layers."""
    kind, _, what = role.rpartition(" ")
    return what == "weight" and kind in kinds


LINEAR = ("linear", "transposed_linear")
CONV = ("conv", "conv_transpose")


def summary(entry: Entry) -> str:
    """How one architecture starts, in a line."""
    groups = [group[:3] for group in entry["starts"]]
    parts = []
    for label, kinds in (
        ("linear", LINEAR),
        ("convolutions", CONV),
        ("embeddings", ("embedding",)),
    ):
        words = counted((w, n) for role, w, n in groups if is_weight(role, *kinds))
        parts += [f"{label} {words}"] if words else []
    rest = [(r, w, n) for r, w, n in groups if not is_weight(r, *LINEAR, *CONV, "embedding")]
    norms = [(w, n) for r, w, n in rest if r == "norm weight"]
    if {w for w, _ in norms} - {"1"}:
        parts.append(f"norms {counted(norms)}")
    biases = counted((w, n) for r, w, n in rest if r.endswith("bias"))
    parts += [f"biases {biases}"] if biases else []
    others = counted((w, n) for r, w, n in rest if r.endswith("weight") and r != "norm weight")
    parts += [f"others {others}"] if others else []
    depth = entry.get("by_depth")
    parts += [f"with depth: {', '.join(_last(d['name']) for d in depth[:3])}"] if depth else []
    return "; ".join(parts)


def _last(name: str) -> str:
    return ".".join(name.split(".")[-3:-1]).removeprefix("*.")


# The page


def page(data: Entry) -> str:
    """The page, of the data alone."""
    entries = data["architectures"]
    seen = {
        name: {**entry, "starts": [_group(data, *start) for start in entry["starts"]]}
        for name, entry in entries.items()
        if "starts" in entry
    }
    lines = [
        *_opening(data, entries),
        *_states(entries),
        *_times(seen),
        *_findings(seen),
        *_families(seen),
        *_unbuilt(entries),
    ]
    return "\n".join(lines) + "\n"


def _group(data: Entry, role: int, initializer: int, count: int, example: str = "") -> Group:
    """The role, the initializer in words, how many tensors, and the name of one."""
    return data["roles"][role], in_words(data["initializers"][initializer]), count, example


def _paragraph(text: str) -> list[str]:
    return [*textwrap.wrap(text, 100, break_long_words=False, break_on_hyphens=False), ""]


def _opening(data: Entry, entries: Entry) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    return [
        "# Atlas: how models start",
        "",
        *_paragraph(
            f"{len(entries)} architectures of transformers, timm and torchvision: each was built, "
            "traced by `portinit_torch.trace`, and replayed in NumPy, and every parameter and "
            "buffer was compared with PyTorch's own. The recipes say how each starts: which "
            "initializers, with which deviations, what depends on depth, and what is left as "
            "PyTorch's layers have it."
        ),
        *_paragraph(
            f"Made on {data['date']} with {versions}, on {data['processor']}, in one thread, by "
            "`python tools/atlas.py`. The data is `docs/_static/atlas.json`. Models of "
            "transformers are built small (width 32, two layers) where their configuration allows "
            "it: a deviation that depends on the width is that of this width. The others have "
            "their own sizes."
        ),
    ]


def _table(head: list[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*(f"| {' | '.join(map(str, line))} |" for line in lines), ""]


def _states(entries: Entry) -> list[str]:
    libraries = sorted({entry["library"] for entry in entries.values()})
    count = collections.Counter((e["library"], e["state"]) for e in entries.values())
    rows = [
        (f"{state}: {what}", *(count[library, state] for library in libraries))
        for state, what in STATES.items()
    ]
    built = [entry for entry in entries.values() if entry["state"] != "unbuilt"]
    same = sum(entry["state"] == "identical" for entry in built)
    tensors = sum(entry.get("tensors", 0) for entry in built)
    return [
        "## Replays",
        "",
        *_paragraph(
            f"{same} of the {len(built)} that could be built ({same / max(1, len(built)):.1%}) are "
            f"PyTorch's in every bit of every tensor; they have {tensors:,} tensors together."
        ),
        *_table(["state", *libraries], rows),
    ]


def _times(seen: Entry) -> list[str]:
    rows = []
    for library in sorted({entry["library"] for entry in seen.values()}):
        times = [
            entry["seconds"]
            for entry in seen.values()
            if entry["library"] == library and entry["seconds"][0] > SECONDS
        ]
        if times:
            replay = sorted(r / b for b, _, r in times)
            trace = statistics.median(t / b for b, t, _ in times)
            tail = replay[min(len(replay) - 1, int(0.9 * len(replay)))]
            middle = statistics.median(replay)
            rows.append((library, len(times), f"{middle:.2f}", f"{tail:.2f}", f"{trace:.1f}"))
    return [
        *_paragraph(
            f"Times as multiples of PyTorch's own construction, for the models that take more than "
            f"{SECONDS * 1000:.0f} ms to build: the fastest of three runs each, one trace, one "
            "thread, on a machine that others used at the same time."
        ),
        *_table(["library", "models", "replay, median", "replay, 90 %", "trace, median"], rows),
    ]


# What is unusual


def _where(seen: Entry, holds: Callable[[str, str], bool]) -> dict[str, list[Group]]:
    """The architectures that have tensors of such a role and initializer, and these."""
    found = {
        name: [group for group in entry["starts"] if holds(group[0], group[1])]
        for name, entry in seen.items()
    }
    return {name: groups for name, groups in found.items() if groups}


def _named(seen: Entry, names: Iterable[str]) -> str:
    """Families by name, at most a dozen."""
    families = sorted({seen[name]["family"] for name in names}, key=str.lower)
    more = len(families) - _MOST_LISTED
    return ", ".join(families[:_MOST_LISTED]) + (f" and {more} more families" if more > 0 else "")


def _main_scheme(entry: Entry, kinds: tuple[str, ...]) -> str:
    total = collections.Counter[str]()
    for role, words, count, _ in entry["starts"]:
        if is_weight(role, *kinds):
            total[words] += count
    return total.most_common(1)[0][0] if total else ""


def _scheme_table(seen: Entry, kinds: tuple[str, ...]) -> list[str]:
    schemes: dict[str, list[str]] = {}
    for name, entry in seen.items():
        scheme = _main_scheme(entry, kinds)
        if scheme:
            schemes.setdefault(scheme, []).append(name)
    ordered = sorted(schemes.items(), key=lambda item: -len(item[1]))
    rows = [(scheme, len(names)) for scheme, names in ordered[:8]]
    left = sum(len(names) for _, names in ordered[8:])
    rows += [(f"{len(ordered) - 8} others", left)] if left else []
    return _table([f"most of an architecture's {kinds[0]} weights", "architectures"], rows)


def _findings(seen: Entry) -> list[str]:
    lines = ["## What they start from", ""]
    for kinds in (LINEAR, CONV, ("embedding",)):
        lines += _scheme_table(seen, kinds)
    for title, text in _odd(seen):
        lines += [f"### {title}", "", *_paragraph(text)]
    return lines


def _odd(seen: Entry) -> Iterator[tuple[str, str]]:
    small = [name for name, entry in seen.items() if entry["size"] == "small"]
    depth = [name for name in small if seen[name].get("by_depth")]
    yield (
        "Deviations that shrink with depth",
        f"{len(depth)} of the {len(small)} that are built small start some weights with another "
        "deviation when they have twice the layers; the ratio is near 0.71, one over the root of "
        f"two, which is the residual scaling of GPT-2 and its kin: {_named(seen, depth)}.",
    )
    layers = [name for name, entry in seen.items() if entry.get("by_layer")]
    examples = ", ".join(f"`{seen[name]['by_layer'][0]}` of {name}" for name in layers[:3])
    yield (
        "Deviations that differ from layer to layer",
        f"{len(layers)} have weights of one name whose initializer is another in each layer: "
        f"{_named(seen, layers)}. Among them: {examples}.",
    )
    default = _where(seen, lambda r, w: is_weight(r, *LINEAR) and w == "PyTorch's default")
    partly = [name for name in default if _main_scheme(seen[name], LINEAR) != "PyTorch's default"]
    yield (
        "Layers that keep PyTorch's default",
        (
            f"{len(default)} architectures leave linear weights as `nn.Linear` has them, uniform "
            f"with a deviation of 1/sqrt(3 fan_in). In {len(partly)} of these most linear weights "
            f"have a scheme of the model's own, and only some were left: {_named(seen, partly)}."
        ),
    )
    biases = _where(seen, lambda r, w: r in ("linear bias", "transposed_linear bias") and w != "0")
    yield (
        "Biases that are not zero",
        (
            f"{len(biases)} architectures have linear layers whose biases do not start at zero: "
            f"{_named(seen, biases)}."
        ),
    )
    zero = _where(seen, lambda r, w: is_weight(r, *LINEAR, *CONV) and w == "0")
    examples = _examples(zero)
    yield (
        "Weights at zero",
        (
            f"{len(zero)} architectures start linear or convolutional weights at zero, so that a "
            f"branch or a head does nothing at first: {_named(seen, zero)}. {examples}"
        ),
    )
    norms = _where(seen, lambda r, w: r == "norm weight" and w == "0")
    yield (
        "Norms whose scale starts at zero",
        (
            f"{len(norms)} have norms with weights at zero. Either the layer multiplies by one "
            f"plus the weight, or a residual branch starts closed: {_named(seen, norms)}."
        ),
    )
    wide = _where(seen, lambda r, w: is_weight(r, "embedding") and w == "normal 1")
    yield (
        "Embeddings of deviation one",
        (
            f"{len(wide)} leave embeddings as `nn.Embedding` has them, with a deviation of 1, "
            f"fifty times the usual 0.02: {_named(seen, wide)}."
        ),
    )
    tiny = _where(seen, lambda r, w: r.endswith("weight") and 0 < _deviation(w) < 1e-3)
    yield (
        "Deviations below 0.001",
        (
            f"{len(tiny)} architectures draw weights that are next to nothing: "
            f"{_named(seen, tiny)}. {_examples(tiny)}"
        ),
    )
    huge = _where(seen, lambda r, w: is_weight(r, *LINEAR, *CONV) and _deviation(w) >= 0.5)
    yield (
        "Linear and convolutional deviations of 0.5 and more",
        (f"{len(huge)} architectures: {_named(seen, huge)}. {_examples(huge)}"),
    )
    drawn = _where(seen, lambda r, w: w == "an expression of draws")
    yield (
        "Values computed from draws",
        (
            f"In {len(drawn)} architectures a parameter is arithmetic on draws, such as the step "
            f"sizes of state-space models: {_named(seen, drawn)}. {_examples(drawn)}"
        ),
    )
    lost = {
        name: entry
        for name, entry in seen.items()
        if any("uninitialised" in why for why in entry.get("lost", {}).values())
    }
    yield (
        "Memory that nothing initialises",
        (
            f"{len(lost)} architectures have parameters that their constructor never writes: "
            f"{_named(seen, lost)}."
            if lost
            else "None: each constructor writes every parameter and buffer of its model."
        ),
    )


def _deviation(words: str) -> float:
    match = re.fullmatch(r"(?:truncated )?normal ([\d.e-]+)", words)
    return float(match[1]) if match else 0.0


def _examples(found: Mapping[str, list[Group]]) -> str:
    """A few of the tensors that were found, of different names."""
    shown: dict[str, str] = {}
    for name, groups in found.items():
        for _, words, _, example in groups:
            if example:
                shown.setdefault(_last(example) or example, f"`{example}` of {name} ({words})")
    parts = list(shown.values())[:3]
    return f"Among them: {'; '.join(parts)}." if parts else ""


# Every family


def _families(seen: Entry) -> list[str]:
    lines = [
        "## Each family",
        "",
        *_paragraph(
            "The number after a distribution is its deviation; with several, the number in "
            "parentheses says how many tensors start so. Norms start at 1 and their biases at 0 "
            "where nothing is said. After *with depth* stand weights whose deviation depends on "
            "the number of layers."
        ),
    ]
    for library in sorted({entry["library"] for entry in seen.values()}):
        rows: dict[tuple[str, str], list[str]] = {}
        for name, entry in seen.items():
            if entry["library"] == library:
                key = entry["family"], summary(entry)
                rows.setdefault(key, []).append(name)
        lines += [f"### {library}", ""]
        for (family, text), names in sorted(rows.items(), key=lambda row: row[0][0].lower()):
            listed = ", ".join(f"`{name}`" for name in names) if names != [family] else ""
            body = f"{listed}: {text}." if listed else f"{text}."
            wrapped = textwrap.wrap(body, 96, break_long_words=False, break_on_hyphens=False)
            lines += [
                f"**{family}**",
                f": {wrapped[0]}",
                *(f"  {line}" for line in wrapped[1:]),
                "",
            ]
    return lines


def _unbuilt(entries: Entry) -> list[str]:
    reasons = collections.Counter(
        _reason(entry.get("why", "")) for entry in entries.values() if entry["state"] == "unbuilt"
    )
    if not reasons:
        return []
    rows = reasons.most_common()
    return ["## Not built here", "", *_table(["reason", "architectures"], rows)]


def _reason(why: str) -> str:
    if "allocate" in why or "it ended with" in why:
        return "too large for the limits of memory and time, at every size that was tried"
    if match := re.search(r"requires the (\w+) library", why):
        return f"needs {match[1]}"
    return "its configuration does not stand without arguments"


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:3])
    target.write_text(page(json.loads(source.read_text())))
