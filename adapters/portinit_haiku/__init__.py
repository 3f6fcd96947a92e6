"""Haiku parameters from portinit: initializers for modules, and whole dicts from recipes."""

from portinit_haiku.conversion import from_conversion as from_conversion
from portinit_haiku.initialize import initialize as initialize
from portinit_haiku.initialize import match as match
from portinit_haiku.initializers import CONV_TRANSPOSE as CONV_TRANSPOSE
from portinit_haiku.initializers import initializer as initializer
from portinit_haiku.uses import uses as uses
