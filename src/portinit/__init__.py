"""One key, the same initial weights in NumPy, PyTorch and JAX."""

from portinit import layers as layers
from portinit import recipes as recipes
from portinit.base import Initializer as Initializer
from portinit.base import Parameter as Parameter
from portinit.combinators import assign as assign
from portinit.combinators import blocks as blocks
from portinit.combinators import from_safetensors as from_safetensors
from portinit.combinators import scaled as scaled
from portinit.combinators import where as where
from portinit.fans import jax_fans as jax_fans
from portinit.fans import torch_fans as torch_fans
from portinit.gains import calculate_gain as calculate_gain
from portinit.initializers import constant as constant
from portinit.initializers import glorot_normal as glorot_normal
from portinit.initializers import glorot_uniform as glorot_uniform
from portinit.initializers import he_normal as he_normal
from portinit.initializers import he_uniform as he_uniform
from portinit.initializers import kaiming_normal as kaiming_normal
from portinit.initializers import kaiming_uniform as kaiming_uniform
from portinit.initializers import lecun_normal as lecun_normal
from portinit.initializers import lecun_uniform as lecun_uniform
from portinit.initializers import normal as normal
from portinit.initializers import ones as ones
from portinit.initializers import ones_init as ones_init
from portinit.initializers import trunc_normal as trunc_normal
from portinit.initializers import truncated_normal as truncated_normal
from portinit.initializers import uniform as uniform
from portinit.initializers import variance_scaling as variance_scaling
from portinit.initializers import xavier_normal as xavier_normal
from portinit.initializers import xavier_uniform as xavier_uniform
from portinit.initializers import zeros as zeros
from portinit.initializers import zeros_init as zeros_init
from portinit.keys import Key as Key
from portinit.keys import key as key
from portinit.layouts import Layout as Layout
from portinit.recipe import Recipe as Recipe
from portinit.recipe import RecipeError as RecipeError
from portinit.recipe import Rule as Rule
from portinit.structured import delta_orthogonal as delta_orthogonal
from portinit.structured import dirac as dirac
from portinit.structured import eye as eye
from portinit.structured import orthogonal as orthogonal
from portinit.structured import sparse as sparse

__version__ = "0.1.0"
