"""PyTorch's CPU generator and samplers, replayed bit for bit in NumPy, without torch.

Every sampler draws n elements in the storage order of the tensor and moves its generator as torch
does; the ``skip_`` functions only move it. What is exact, and where the C library or the version
of torch shows, each sampler's docstring says. With numba installed large draws are compiled; the
bits are the same.
"""

from portinit.replay.torch_math import sleef as sleef
from portinit.replay.torch_rng.formats import LATEST as LATEST
from portinit.replay.torch_rng.formats import Version as Version
from portinit.replay.torch_rng.generator import STATE_SIZE as STATE_SIZE
from portinit.replay.torch_rng.generator import Generator as Generator
from portinit.replay.torch_rng.integers import random_integers as random_integers
from portinit.replay.torch_rng.integers import randperm as randperm
from portinit.replay.torch_rng.integers import skip_random_integers as skip_random_integers
from portinit.replay.torch_rng.integers import skip_randperm as skip_randperm
from portinit.replay.torch_rng.normals import normal as normal
from portinit.replay.torch_rng.normals import skip_normal as skip_normal
from portinit.replay.torch_rng.truncated import skip_trunc_normal as skip_trunc_normal
from portinit.replay.torch_rng.truncated import trunc_normal as trunc_normal
from portinit.replay.torch_rng.uniforms import skip_uniform as skip_uniform
from portinit.replay.torch_rng.uniforms import uniform as uniform
