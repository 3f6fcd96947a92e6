"""Ready recipes of recurrent layers; :mod:`portinit.recipes` offers them.

Rules go by PyTorch's packed names, ``weight_ih_l0`` of a layer or ``weight_ih`` of a cell, and by
the names that Flax's cells give their gates. Only recurrent layers match.
"""

from __future__ import annotations

from collections.abc import Mapping

from portinit.initializers.base import Initializer
from portinit.initializers.basic import constant, normal, zeros
from portinit.initializers.combinators import scaled
from portinit.initializers.expression import unavailable
from portinit.initializers.matrices import eye, orthogonal
from portinit.initializers.torch_schemes import xavier_uniform
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.recipes.schemes import marked
from portinit.recurrent import chrono, forget_bias, gates

_INPUT, _RECURRENT = xavier_uniform(), orthogonal()


def lstm(
    forget: float = 1.0,
    *,
    input: Initializer = _INPUT,  # noqa: A002 - of the weights on the input
    recurrent: Initializer = _RECURRENT,
    module: str = "",
) -> Recipe:
    """LSTMs: Xavier uniform input weights and orthogonal recurrent weights, gate by gate.

    The forget gate's bias is put into ``bias_ih`` alone, because a cell adds ``bias_hh`` to it;
    all other biases are zero. A projection (``proj_size``) starts like an input weight.

    Args:
        forget: the forget gate's bias.
        input: for each gate's weights on the input; fans are one gate's, (hidden, inputs).
        recurrent: for each gate's weights on the state.
        module: only modules whose names match this pattern: ``"encoder"``, ``"*.lstm"``; all
            recurrent layers if empty. Layers of other kinds must be kept out of it.

    Returns:
        A recipe of patterns for recurrent layers; put it in front of one for the other layers.

    Source: Glorot and Bengio, 2010; Saxe et al., 2014; Jozefowicz et al., 2015.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.lstm()
    >>> layer = portinit_torch.initialize(torch.nn.LSTM(3, 8), recipe, portinit.key(0))
    """
    biases = {"hf": constant(forget), "h[igo]": zeros}
    return _recipe("lstm", "ifgo", input, recurrent, forget_bias(forget), biases, module)


def chrono_lstm(
    t_max: float,
    *,
    input: Initializer = _INPUT,  # noqa: A002
    recurrent: Initializer = _RECURRENT,
    module: str = "",
) -> Recipe:
    """LSTMs that remember for up to ``t_max`` steps: as :func:`lstm`, with chrono biases.

    b_f = log(U[1, t_max - 1]) and b_i = -b_f; see :class:`portinit.recurrent.chrono`.

    Args:
        t_max: the longest dependency expected, in steps; above 2.
        input: as for :func:`lstm`.
        recurrent: likewise.
        module: likewise.

    Returns:
        A recipe of patterns for recurrent layers; put it in front of one for the other layers.

    Source: Tallec and Ollivier, "Can recurrent neural networks warp time?", ICLR 2018, section 2.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.chrono_lstm(t_max=100)
    >>> layer = portinit_torch.initialize(torch.nn.LSTM(3, 8), recipe, portinit.key(0))
    """
    biases = {"h[ifgo]": unavailable(_APART)}
    return _recipe("chrono_lstm", "ifgo", input, recurrent, chrono(t_max), biases, module)


_APART = (
    "chrono biases of two gates share their draws, and Flax's cells hold them apart: bind the "
    "recipe to portinit_flax.recurrent_parameters(model), or to the PyTorch model, first"
)


def gru(
    *,
    input: Initializer = _INPUT,  # noqa: A002
    recurrent: Initializer = _RECURRENT,
    t_max: float | None = None,
    module: str = "",
) -> Recipe:
    """GRUs: Xavier uniform input weights, orthogonal recurrent weights, zero biases.

    Args:
        input: as for :func:`lstm`.
        recurrent: likewise.
        t_max: chrono biases for the update gate, which keeps the state: log(U[1, t_max - 1]).
        module: as for :func:`lstm`.

    Returns:
        A recipe of patterns for recurrent layers; put it in front of one for the other layers.

    Source: Glorot and Bengio, AISTATS 2010; Saxe, McClelland and Ganguli, ICLR 2014.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.gru()
    >>> layer = portinit_torch.initialize(torch.nn.GRU(3, 8), recipe, portinit.key(0))
    """
    bias = zeros if t_max is None else chrono(t_max)
    apart = zeros if t_max is None else unavailable(_APART)
    biases = {"i[rzn]": apart, "hn": apart}
    return _recipe("gru", "rzn", input, recurrent, bias, biases, module)


def rnn(
    *,
    input: Initializer = _INPUT,  # noqa: A002
    recurrent: Initializer = _RECURRENT,
    module: str = "",
) -> Recipe:
    """Plain RNNs: Xavier uniform input weights, orthogonal recurrent weights, zero biases.

    Args:
        input: as for :func:`lstm`.
        recurrent: likewise.
        module: likewise.

    Returns:
        A recipe of patterns for recurrent layers; put it in front of one for the other layers.

    Source: Glorot and Bengio, AISTATS 2010; Saxe, McClelland and Ganguli, ICLR 2014.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.rnn()
    >>> layer = portinit_torch.initialize(torch.nn.RNN(3, 8), recipe, portinit.key(0))
    """
    return _recipe("rnn", "", input, recurrent, zeros, {"i": zeros}, module)


def irnn(scale: float = 1.0, std: float = 0.001, *, module: str = "") -> Recipe:
    """Plain RNNs of ReLUs that begin as the identity: W_hh = scale * I, zero biases.

    The layer's nonlinearity must be ReLU: ``torch.nn.RNN(..., nonlinearity="relu")``.

    Args:
        scale: below 1 for short dependencies; the paper uses 1, and 0.01 for speech.
        std: of the input weights, which are normal.
        module: as for :func:`lstm`.

    Returns:
        A recipe of patterns for recurrent layers; put it in front of one for the other layers.

    Source: Le, Jaitly, Hinton, "A simple way to initialize recurrent networks of rectified linear
    units", 2015.

    >>> import portinit, portinit_torch, torch
    >>> recipe = portinit.recipes.irnn()
    >>> layer = torch.nn.RNN(3, 8, nonlinearity="relu")
    >>> layer = portinit_torch.initialize(layer, recipe, portinit.key(0))
    """
    identity = eye() if scale == 1 else scaled(eye(), scale)
    return _recipe("irnn", "", normal(std=std), identity, zeros, {"i": zeros}, module)


def _recipe(
    scheme: str,
    letters: str,
    input: Initializer,  # noqa: A002
    recurrent: Initializer,
    bias: Initializer,
    biases: Mapping[str, Initializer],
    module: str,
) -> Recipe:
    """The rules of a kind of layer: PyTorch's names, then those of Flax's cells.

    Args:
        scheme: the name of the recipe.
        letters: of the gates, in PyTorch's order.
        input: for each gate.
        recurrent: for each gate.
        bias: the packed one.
        biases: those that Flax's cells hold apart, by their gates.
        module: a pattern of the module's name.
    """
    inputs, recurrents = (gates((weight,) * max(1, len(letters))) for weight in (input, recurrent))
    packed = {
        "weight_ih*": inputs,
        "weight_hh*": recurrents,
        "weight_hr*": input,
        "bias_ih*": bias,
        "bias_hh*": zeros,
        "dense_i.weight": inputs,
        "dense_h.weight": recurrents,
        "dense_[ih].bias": bias,
    }
    some = f"[{letters}]" if letters else ""
    apart = {f"i{some}.weight": input, f"h{some}.weight": recurrent}
    if "f" in letters:
        apart["if_.weight"] = input  # so in nnx, as "if" is a word of Python's
    apart |= {f"{gate}.bias": value for gate, value in biases.items()}
    inside = f"{module}." if module else ""
    places = [(f"{inside}*", packed), (inside, apart), (f"{inside}*.", apart)]
    rules = [
        Rule(place + name, value, kind="recurrent")
        for place, values in places
        for name, value in values.items()
    ]
    return Recipe(marked(f"{scheme}(module=...)", rules))
