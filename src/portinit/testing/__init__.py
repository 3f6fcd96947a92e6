"""Assertions for the tests of libraries that give one layer in PyTorch and in another framework."""

from portinit.testing.laws import assert_distribution as assert_distribution
from portinit.testing.matches import prove_match as prove_match
from portinit.testing.pairs import assert_same_distribution as assert_same_distribution
from portinit.testing.proof import MatchProof as MatchProof
from portinit.testing.weights import assert_same_weights as assert_same_weights
