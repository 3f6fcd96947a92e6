"""PyTorch's CPU generator and samplers, replayed bit for bit in NumPy, without torch.

Every sampler draws n elements in the storage order of the tensor and moves its generator as torch
does; the ``skip_`` functions only move it. What is exact, and where the C library or the version
of torch shows, each sampler's docstring says. With numba installed large draws are compiled; the
bits are the same.
"""

from portinit.torch_stream import sleef as sleef
from portinit.torch_stream.formats import LATEST as LATEST
from portinit.torch_stream.formats import Version as Version
from portinit.torch_stream.generator import STATE_SIZE as STATE_SIZE
from portinit.torch_stream.generator import Generator as Generator
from portinit.torch_stream.integers import random_integers as random_integers
from portinit.torch_stream.integers import randperm as randperm
from portinit.torch_stream.integers import skip_random_integers as skip_random_integers
from portinit.torch_stream.integers import skip_randperm as skip_randperm
from portinit.torch_stream.normals import normal as normal
from portinit.torch_stream.normals import skip_normal as skip_normal
from portinit.torch_stream.truncated import skip_trunc_normal as skip_trunc_normal
from portinit.torch_stream.truncated import trunc_normal as trunc_normal
from portinit.torch_stream.uniforms import skip_uniform as skip_uniform
from portinit.torch_stream.uniforms import uniform as uniform
