"""The size of activations and gradients, layer by layer, in numbers."""

from portinit.probes.measured import ProbedLayer as ProbedLayer
from portinit.probes.measured import ProbedParameter as ProbedParameter
from portinit.probes.probing import probe as probe
from portinit.probes.result import Probe as Probe
from portinit.probes.verdicts import Problem as Problem
