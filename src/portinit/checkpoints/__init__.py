"""Initial weights written to disk as they are computed: models larger than memory."""

from portinit.checkpoints.entries import Entry as Entry
from portinit.checkpoints.entries import entries as entries
from portinit.checkpoints.files import CheckpointError as CheckpointError
from portinit.checkpoints.values import Replay as Replay
from portinit.checkpoints.write import write as write
