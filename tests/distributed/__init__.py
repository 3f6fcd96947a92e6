"""What the tests of sharded models share: ranks, real and simulated, and ways to parallelise."""
