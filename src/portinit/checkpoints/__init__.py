"""Initial weights written to disk as they are computed: models larger than memory."""

from portinit.checkpoints.files import CheckpointError as CheckpointError
from portinit.checkpoints.tensors import TensorSpec as TensorSpec
from portinit.checkpoints.tensors import checkpoint_tensors as checkpoint_tensors
from portinit.checkpoints.values import Replay as Replay
from portinit.checkpoints.write import write as write

Entry = TensorSpec
"""The former name of :class:`TensorSpec`."""
entries = checkpoint_tensors
"""The former name of :func:`checkpoint_tensors`."""
