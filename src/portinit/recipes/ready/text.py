"""Ready recipes of language models.

Each gives every parameter of its reference the initializer that a trace of the reference finds; the
tests compare them one by one. The names are those of transformers 5.
"""

from __future__ import annotations

import math

from portinit import layers
from portinit.initializers.basic import normal, ones, zeros
from portinit.initializers.jax_schemes import variance_scaling
from portinit.initializers.state_space import mamba_a_log, mamba_dt_bias
from portinit.recipes.ready.frameworks import BUFFERS, NORMS
from portinit.recipes.ready.patterns import at_least, normal_weights, rules_for
from portinit.recipes.recipe import Recipe
from portinit.recipes.rule import Rule
from portinit.recipes.schemes import marked


def _residual(std: float, depth: int) -> normal:
    return normal(std=std / math.sqrt(2 * depth))


def gpt2(layers: int, std: float = 0.02) -> Recipe:
    """Return the recipe of GPT-2.

    Weights and embeddings are N(0, std^2), residual projections N(0, std^2 / (2 * layers)), biases
    zero.

    Args:
        layers: the number of blocks, 1 or more, each with two residual projections (``proj``,
            ``c_proj``, ``out_proj``).
        std: the standard deviation of all other weights.

    Returns:
        A recipe of patterns.

    Raises:
        TypeError: a number of layers that is no integer.
        ValueError: fewer than 1 layer.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019, 2.3.

    >>> import portinit
    >>> recipe = portinit.recipes.gpt2(layers=12)
    """
    layers = at_least("layers", layers)
    residual = rules_for(_RESIDUAL, _residual(std, layers))
    return Recipe(
        [
            *BUFFERS,
            *NORMS,
            *marked("gpt2's scale of residual projections", residual),
            Rule("*bias*", zeros),
            Rule("*weight*", normal(std=std)),
        ]
    )


_RESIDUAL = tuple(
    f"*.{name}.weight" for name in ("proj", "c_proj", "out_proj", "o_proj", "down_proj")
)


def llama(std: float = 0.02) -> Recipe:
    """Return the recipe of Llama, and of Mistral, Qwen and others that follow it.

    Weights and embeddings are N(0, std^2) at any depth, the padding row and biases zero, RMSNorms
    one.

    Args:
        std: the standard deviation; ``initializer_range`` in transformers.

    Returns:
        A recipe of patterns.

    Source: transformers' ``LlamaForCausalLM``.

    >>> import portinit
    >>> norm = portinit.Parameter("model.norm.weight", (8,))
    >>> portinit.recipes.llama().find(norm).initializer
    ones()
    """
    return normal_weights(std)


def bert(std: float = 0.02) -> Recipe:
    """Return the recipe of BERT and RoBERTa.

    Weights and embeddings are N(0, std^2), the padding row and biases zero, normalisations 1 and 0.
    The original cut the normal at two standard deviations.

    Args:
        std: the standard deviation; ``initializer_range`` in transformers.

    Returns:
        A recipe of patterns.

    Source: Devlin et al., "BERT", NAACL 2019; transformers' ``BertForMaskedLM``.

    >>> import portinit
    >>> weight = portinit.Parameter("encoder.layer.0.output.dense.weight", (8, 8), "linear")
    >>> portinit.recipes.bert().find(weight).initializer
    normal(mean=0.0, std=0.02)
    """
    return normal_weights(std)


def t5(d_model: int, d_kv: int) -> Recipe:
    """Return the recipe of T5, whose attention has no scale of its own.

    Weights are N(0, 1 / fan_in), queries N(0, 1 / (fan_in d_kv)), the shared embedding N(0, 1), the
    table of relative positions N(0, 1 / d_model), RMSNorms one.

    Args:
        d_model: the width of the model, 1 or more.
        d_kv: the width of a head, 1 or more.

    Returns:
        A recipe of patterns.

    Raises:
        TypeError: a width that is no integer.
        ValueError: a width below 1.

    Source: Raffel et al., "Exploring the limits of transfer learning", JMLR 2020; Mesh TensorFlow;
    transformers' ``T5ForConditionalGeneration``.

    >>> import portinit
    >>> query = portinit.Parameter("encoder.block.0.layer.0.SelfAttention.q.weight", (32, 16))
    >>> rule = portinit.recipes.t5(d_model=16, d_kv=4).find(query)
    >>> rule.initializer.distribution_of((32, 16), layout="torch").std  # 1 / sqrt(16 * 4)
    0.125
    """
    d_model, d_kv = at_least("d_model", d_model), at_least("d_kv", d_kv)
    queries = variance_scaling(1 / d_kv, "fan_in", "normal")
    return Recipe(
        [
            Rule("*norm*weight", ones),
            Rule("*relative_attention_bias.weight", normal(std=d_model**-0.5)),
            *marked("t5's scale of queries", [Rule("*.q.weight", queries)]),
            Rule("*", normal(), kind="embedding"),
            Rule("lm_head.weight", normal()),
            Rule("*weight", variance_scaling(1.0, "fan_in", "normal")),
        ]
    )


def mamba(std: float = 0.1) -> Recipe:
    """Return the recipe of Mamba.

    A_log is log(1), ..., log(d_state), D one, the bias of dt's projection the inverse softplus of a
    log-uniform step; other weights N(0, std^2) but for the convolution and the output projection,
    which are PyTorch's defaults, and dt's projection U(+-1 / sqrt(dt_rank)).

    Args:
        std: the standard deviation of embeddings and input projections.

    Returns:
        A recipe of patterns.

    Source: Gu and Dao, "Mamba", 2023; transformers' ``MambaForCausalLM``.

    >>> import portinit
    >>> portinit.recipes.mamba().find(portinit.Parameter("layers.0.mixer.D", (8,))).initializer
    ones()
    """
    return normal_weights(
        std,
        Rule("*A_log", mamba_a_log()),
        Rule("*mixer.D", ones),
        *marked("mamba's bias of dt", [Rule("*dt_proj.bias", mamba_dt_bias())]),
        *(Rule(f"*{name}.weight", layers.linear_weight()) for name in _MAMBAS_DEFAULTS),
    )


_MAMBAS_DEFAULTS = ("conv1d", "dt_proj", "out_proj")
