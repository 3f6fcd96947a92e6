"""Whether two models compute the same: their forward passes, with weights that show errors."""

from portinit.testing.proof.result import MatchProof as MatchProof
