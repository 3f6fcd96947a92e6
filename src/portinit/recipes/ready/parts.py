"""Ready rules for parts of a model: adapters, experts and their routers, classifiers."""

from __future__ import annotations

import math

from portinit.initializers.basic import constant, zeros
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.numbers import as_float
from portinit.initializers.torch_schemes import kaiming_uniform
from portinit.recipes.ready.patterns import Patterns, rules_for
from portinit.recipes.recipe import Recipe
from portinit.recipes.schemes import marked


def lora(down: Patterns = "*lora_A*", up: Patterns = "*lora_B*") -> Recipe:
    """Return the rule of LoRA's factors: the first as PyTorch's Linear, the second zero.

    Args:
        down: patterns of the names of A, (rank, in).
        up: patterns of the names of B, (out, rank).

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Hu et al., "LoRA: low-rank adaptation of large language models", ICLR 2022, section 4.1;
    A is ``kaiming_uniform_(a=sqrt(5))`` in the authors' code.

    >>> import portinit
    >>> portinit.recipes.lora().find(portinit.Parameter("q.lora_B.weight", (8, 2))).initializer
    zeros()
    """
    first = rules_for(down, kaiming_uniform(a=math.sqrt(5)))
    second = rules_for(up, zeros)
    return Recipe([*marked("lora(down=...)", first), *marked("lora(up=...)", second)])


def switch_router(
    scale: float = 0.1, patterns: Patterns = ("*router*weight", "*.gate.weight")
) -> Recipe:
    """Return the rule of the Switch Transformer's weights, for routers and experts.

    Truncated normal with std sqrt(scale / fan_in), a tenth of what transformers had used.

    Args:
        scale: above 0.
        patterns: of the names of the weights.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: Fedus, Zoph, Shazeer, "Switch transformers", JMLR 2022, section 2.4.

    >>> import portinit
    >>> rule = portinit.recipes.switch_router().find(portinit.Parameter("router.weight", (4, 10)))
    >>> round(rule.initializer.distribution_of((4, 10), layout="torch").std, 6)
    0.1
    """
    values = variance_scaling(scale, "fan_in", "truncated_normal")
    return Recipe(marked("switch_router(patterns=...)", rules_for(patterns, values)))


def packed_experts(pattern: str = "*experts*", in_axis: int = -1, out_axis: int = -2) -> Recipe:
    """Experts in one tensor, such as (experts, out, in): each starts as PyTorch's Linear does.

    The expert's axis counts in no fan, so that the weights are U(+-1/sqrt(in)).
    PyTorch's own schemes take the first two axes of any tensor for outputs and inputs.

    Args:
        pattern: of the names of the packed weights; put biases, of one axis an expert, in a rule
            in front.
        in_axis: the axis of the tensor that the inputs lie along, of 1 and 2.
        out_axis: the axis of the outputs.

    Returns:
        A recipe to put in front of one for the other layers.

    Source: ``torch.nn.Linear.reset_parameters``, for each expert.

    >>> import portinit
    >>> rule = packed_experts().find(portinit.Parameter("experts.up", (8, 64, 16)))
    >>> rule.initializer.distribution_of((8, 64, 16), layout="torch").std  # of U(+-1/4)
    0.14433756729740643
    """
    each = variance_scaling(1 / 3, "fan_in", "uniform", in_axis, out_axis, batch_axis=0)
    return Recipe(marked("packed_experts(pattern=...)", rules_for(pattern, each)))


def class_prior(probability: float = 0.01) -> constant:
    """Return the bias of a classifier whose classes start with a given probability.

    b = -log((1 - p) / p), so that the sigmoid of the outputs is p where the weights give 0.

    Args:
        probability: p, between 0 and 1.

    Returns:
        An initializer.

    Raises:
        ValueError: a probability outside (0, 1).

    Source: Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4.1.

    >>> import portinit
    >>> portinit.recipes.class_prior(0.5)
    constant(val=0.0)
    """
    probability = as_float("probability", probability)
    if not 0 < probability < 1:
        raise ValueError(f"a probability must be between 0 and 1, got {probability}")
    return constant(math.log(probability / (1 - probability)))
