"""MLX's arrays and modules from portinit: functions for arrays, and whole models from recipes."""

from portinit_mlx.arrays import init_fn as init_fn
from portinit_mlx.conversion import from_conversion as from_conversion
from portinit_mlx.initialize import initialize as initialize
from portinit_mlx.initialize import match as match
