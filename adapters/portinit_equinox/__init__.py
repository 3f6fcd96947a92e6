"""Whole Equinox models, filled from recipes."""

from portinit_equinox.conversion import from_conversion as from_conversion
from portinit_equinox.initialize import initialize as initialize
from portinit_equinox.initialize import match as match
from portinit_equinox.uses import uses as uses
