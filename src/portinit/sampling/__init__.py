"""A word becomes a value, said as data that every backend can compute."""
