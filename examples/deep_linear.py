"""A hundred linear layers of width 256: what two frameworks' versions of the experiment share.

The experiment: feed N(0, 1) through the layers, and print the std of each layer's output. Under
N(0, 1) it grows by sqrt(256) = 16 a layer, until float32 overflows; under N(0, 1/n) it stays where
nothing follows the layers, and halves its square where a ReLU does.

Sources: He et al., "Delving deep into rectifiers", 2015; Glorot and Bengio, 2010.
"""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import portinit

DEPTH, WIDTH, BATCH, SAMPLES = 100, 256, 64, 10_000
KEY = portinit.key(0)

SCHEMES = {
    "N(0, 1)": portinit.normal(),
    "N(0, 1/n)": portinit.variance_scaling(1.0, "fan_in", "normal"),
    "Xavier, tanh": portinit.xavier_normal(gain=portinit.calculate_gain("tanh")),
    "Kaiming": portinit.kaiming_normal(nonlinearity="relu"),
}
ACTIVATIONS = ("none", "relu", "tanh")

Probes = dict[tuple[str, str], portinit.Probe]


def example_input() -> np.ndarray:
    """A batch of N(0, 1), float32, (BATCH, WIDTH)."""
    return portinit.normal()(KEY.fold_in("inputs"), (BATCH, WIDTH))


def run(
    probe: Callable[[str, portinit.Recipe], portinit.Probe],
    activations: Sequence[str] = ACTIVATIONS,
) -> Probes:
    """A probe of each activation under each scheme."""
    return {
        (activation, scheme): probe(activation, portinit.Recipe([("*", initializer)]))
        for activation in activations
        for scheme, initializer in SCHEMES.items()
    }


def report(probes: Probes, function_of: Callable[[str, np.ndarray], np.ndarray]) -> str:
    """The tables that both frameworks print."""
    lines = []
    for activation in ACTIVATIONS:
        lines += [f"std of each layer's output, activation: {activation}", ""]
        lines += [" layer" + "".join(f"{scheme:>14}" for scheme in SCHEMES)]
        columns = [stds(probes[activation, scheme]) for scheme in SCHEMES]
        for layer, row in enumerate(zip(*columns, strict=True), 1):
            lines.append(f"{layer:6}" + "".join(f"{_cell(std):>14}" for std in row))
        lines.append("")
        for scheme in SCHEMES:
            for verb, layer in turns(probes[activation, scheme]).items():
                lines.append(f"{scheme}: activations {verb} at layer {layer}")
        lines.append("")
    return "\n".join([*lines, gains(function_of)])


def _cell(std: float) -> str:
    # Infinity or NaN depends on the order in which a product's terms are added.
    return f"{std:.2g}" if math.isfinite(std) else "overflow"


def stds(probe: portinit.Probe) -> list[float]:
    """The std of each layer's output."""
    return [layer.output.std for layer in probe.layers]


def turns(probe: portinit.Probe) -> dict[str, int]:
    """The layers where activations first explode, vanish, and are no longer all finite."""
    names = {"inf": "overflow", "nan": "overflow", "exploding": "explode", "vanishing": "vanish"}
    found: dict[str, int] = {}
    for problem in probe.problems:
        if problem.signal == "activations":
            verb = names.get(problem.verdict, problem.verdict)
            found[verb] = min(problem.place, found.get(verb, DEPTH))
    return found


def measured_gain(values: np.ndarray, outputs: np.ndarray) -> float:
    """The factor that gives a function's outputs the mean square of its inputs."""
    return math.sqrt(np.mean(np.square(values, dtype=np.float64)) / np.mean(np.square(outputs)))


def samples() -> np.ndarray:
    """10,000 draws of N(0, 1)."""
    return portinit.normal()(KEY.fold_in("samples"), (SAMPLES,))


def gains(function_of: Callable[[str, np.ndarray], np.ndarray]) -> str:
    """PyTorch's table, the integral, and the gain measured from samples."""
    lines = [f"gain         table    integral    {SAMPLES:,} samples"]
    for name, function in (("relu", lambda z: np.maximum(z, 0)), ("tanh", np.tanh)):
        table, integral = portinit.calculate_gain(name), portinit.calculate_gain(function)
        measured = measured_gain(samples(), function_of(name, samples()).astype(np.float64))
        lines.append(f"{name:8}{table:10.4f}{integral:12.4f}{measured:18.4f}")
    return "\n".join(lines)


def plot(probes: Probes, path: Path) -> None:
    """Draw each std by layer, a picture for each activation; a cross where float32 overflows."""
    from matplotlib.figure import Figure

    figure = Figure((11, 3.6), layout="constrained")
    for axes, activation in zip(figure.subplots(1, 3, sharey=True), ACTIVATIONS, strict=True):
        axes.set(title=f"activation: {activation}", xlabel="layer", yscale="log")
        for scheme in SCHEMES:
            finite = [std for std in stds(probes[activation, scheme]) if math.isfinite(std)]
            (line,) = axes.plot(range(1, len(finite) + 1), finite, label=scheme)
            if len(finite) < DEPTH:
                axes.plot(len(finite), finite[-1], "x", color=line.get_color(), markersize=9)
        axes.grid(axis="y", alpha=0.3)
    figure.axes[0].set_ylabel("std of output")
    figure.axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path)


def main(
    probe: Callable[[str, portinit.Recipe], portinit.Probe],
    function_of: Callable[[str, np.ndarray], np.ndarray],
) -> None:
    """The command line of either version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the stds: .svg, .png, .pdf")
    arguments = parser.parse_args()
    probes = run(probe)
    sys.stdout.write(f"{report(probes, function_of)}\n")
    if arguments.plot is not None:
        plot(probes, arguments.plot)
