"""Which element of a parameter lies where, and in which dtype."""
