"""Keras 3: initializers by Keras's names, and whole models filled from recipes."""

from portinit_keras.conversion import from_conversion as from_conversion
from portinit_keras.initialize import initialize as initialize
from portinit_keras.initialize import match as match
from portinit_keras.initializers import Constant as Constant
from portinit_keras.initializers import GlorotNormal as GlorotNormal
from portinit_keras.initializers import GlorotUniform as GlorotUniform
from portinit_keras.initializers import HeNormal as HeNormal
from portinit_keras.initializers import HeUniform as HeUniform
from portinit_keras.initializers import Identity as Identity
from portinit_keras.initializers import Initializer as Initializer
from portinit_keras.initializers import LecunNormal as LecunNormal
from portinit_keras.initializers import LecunUniform as LecunUniform
from portinit_keras.initializers import Ones as Ones
from portinit_keras.initializers import Orthogonal as Orthogonal
from portinit_keras.initializers import RandomNormal as RandomNormal
from portinit_keras.initializers import RandomUniform as RandomUniform
from portinit_keras.initializers import TruncatedNormal as TruncatedNormal
from portinit_keras.initializers import VarianceScaling as VarianceScaling
from portinit_keras.initializers import Zeros as Zeros
from portinit_keras.uses import uses as uses
