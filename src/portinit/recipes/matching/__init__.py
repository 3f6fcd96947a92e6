"""Which array of one model holds which parameter of another: evidence, layouts and the result."""
