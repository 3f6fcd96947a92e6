"""One key, the same initial weights in NumPy, PyTorch and JAX."""

import importlib
from typing import TYPE_CHECKING, Any

from portinit import layers as layers
from portinit import recipes as recipes
from portinit import recurrent as recurrent
from portinit.arrays.layouts import Layout as Layout
from portinit.initializers.assigned import assign as assign
from portinit.initializers.assigned import from_file as from_file
from portinit.initializers.assigned import from_safetensors as from_safetensors
from portinit.initializers.base import Initializer as Initializer
from portinit.initializers.base import Parameter as Parameter
from portinit.initializers.basic import constant as constant
from portinit.initializers.basic import normal as normal
from portinit.initializers.basic import ones as ones
from portinit.initializers.basic import ones_init as ones_init
from portinit.initializers.basic import trunc_normal as trunc_normal
from portinit.initializers.basic import truncated_normal as truncated_normal
from portinit.initializers.basic import uniform as uniform
from portinit.initializers.basic import zeros as zeros
from portinit.initializers.basic import zeros_init as zeros_init
from portinit.initializers.combinators import blocks as blocks
from portinit.initializers.combinators import scaled as scaled
from portinit.initializers.combinators import where as where
from portinit.initializers.fans import jax_fans as jax_fans
from portinit.initializers.fans import torch_fans as torch_fans
from portinit.initializers.gains import calculate_gain as calculate_gain
from portinit.initializers.hadamard import hadamard as hadamard
from portinit.initializers.jax_schemes import glorot_normal as glorot_normal
from portinit.initializers.jax_schemes import glorot_uniform as glorot_uniform
from portinit.initializers.jax_schemes import he_normal as he_normal
from portinit.initializers.jax_schemes import he_uniform as he_uniform
from portinit.initializers.jax_schemes import lecun_normal as lecun_normal
from portinit.initializers.jax_schemes import lecun_uniform as lecun_uniform
from portinit.initializers.jax_schemes import variance_scaling as variance_scaling
from portinit.initializers.like_jax import like_jax as like_jax
from portinit.initializers.matrices import delta_orthogonal as delta_orthogonal
from portinit.initializers.matrices import dirac as dirac
from portinit.initializers.matrices import eye as eye
from portinit.initializers.matrices import orthogonal as orthogonal
from portinit.initializers.positions import sinusoids as sinusoids
from portinit.initializers.positions import sinusoids_2d as sinusoids_2d
from portinit.initializers.sine import siren as siren
from portinit.initializers.sine import spectral as spectral
from portinit.initializers.sparse import sparse as sparse
from portinit.initializers.state_space import hippo as hippo
from portinit.initializers.state_space import mamba_a_log as mamba_a_log
from portinit.initializers.state_space import mamba_dt_bias as mamba_dt_bias
from portinit.initializers.state_space import progression as progression
from portinit.initializers.torch_schemes import kaiming_normal as kaiming_normal
from portinit.initializers.torch_schemes import kaiming_uniform as kaiming_uniform
from portinit.initializers.torch_schemes import xavier_normal as xavier_normal
from portinit.initializers.torch_schemes import xavier_uniform as xavier_uniform
from portinit.initializers.upsampling import bilinear_upsampling as bilinear_upsampling
from portinit.initializers.upsampling import icnr as icnr
from portinit.random.flax_keys import linen_key as linen_key
from portinit.random.flax_keys import linen_keys as linen_keys
from portinit.random.flax_keys import nnx_key as nnx_key
from portinit.random.flax_keys import nnx_keys as nnx_keys
from portinit.random.keys import Key as Key
from portinit.random.keys import key as key
from portinit.recipes.packed import sum_biases as sum_biases
from portinit.recipes.pretrained import pretrained as pretrained
from portinit.recipes.recipe import Recipe as Recipe
from portinit.recipes.rule import RecipeError as RecipeError
from portinit.recipes.rule import Rule as Rule

if TYPE_CHECKING:
    from portinit.probes import Probe as Probe
    from portinit.probes import probe as probe

__version__ = "0.1.0"

__all__ = [
    "Initializer",
    "Key",
    "Layout",
    "Parameter",
    "Probe",
    "Recipe",
    "RecipeError",
    "Rule",
    "assign",
    "bilinear_upsampling",
    "blocks",
    "calculate_gain",
    "constant",
    "delta_orthogonal",
    "dirac",
    "eye",
    "from_file",
    "from_safetensors",
    "glorot_normal",
    "glorot_uniform",
    "hadamard",
    "he_normal",
    "he_uniform",
    "hippo",
    "icnr",
    "jax_fans",
    "kaiming_normal",
    "kaiming_uniform",
    "key",
    "layers",
    "lecun_normal",
    "lecun_uniform",
    "like_jax",
    "linen_key",
    "linen_keys",
    "mamba_a_log",
    "mamba_dt_bias",
    "nnx_key",
    "nnx_keys",
    "normal",
    "ones",
    "ones_init",
    "orthogonal",
    "pretrained",
    "probe",
    "progression",
    "recipes",
    "recurrent",
    "scaled",
    "sinusoids",
    "sinusoids_2d",
    "siren",
    "sparse",
    "spectral",
    "sum_biases",
    "torch_fans",
    "trunc_normal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "where",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_init",
]

_LAZY = {"Probe": "portinit.probes", "probe": "portinit.probes"}
_TOOLS = ("checkpoints", "probes", "testing")


def __getattr__(name: str) -> Any:
    """The tools, which are imported when they are used."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _TOOLS:
        return importlib.import_module(f"portinit.{name}")
    raise AttributeError(f"module 'portinit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
