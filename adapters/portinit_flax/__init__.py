"""Whole Flax models, linen or nnx, filled from recipes."""

from portinit.recipes.matching.evidence import Evidence as Evidence
from portinit.recipes.matching.evidence import LayoutEvidence as LayoutEvidence
from portinit.recipes.matching.result import Matching as Matching
from portinit.recipes.matching.result import Pair as Pair
from portinit_flax.checkpoints import checkpoint_tensors as checkpoint_tensors
from portinit_flax.checkpoints import entries as entries
from portinit_flax.conversion import from_conversion as from_conversion
from portinit_flax.initialize import Compiled as Compiled
from portinit_flax.initialize import CompiledProgram as CompiledProgram
from portinit_flax.initialize import initialize as initialize
from portinit_flax.initialize import match as match
from portinit_flax.initialize import precompile as precompile
from portinit_flax.recurrent import recurrent_names as recurrent_names
from portinit_flax.recurrent import recurrent_parameters as recurrent_parameters
from portinit_flax.uses import uses as uses
