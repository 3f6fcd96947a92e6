"""Whole models of the toy library filled from recipes."""

from portinit_toynn.initialize import initialize as initialize
from portinit_toynn.initialize import match as match
