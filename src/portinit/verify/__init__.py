"""Proof that weights are what they are said to be: equal bits, and the right distribution."""
