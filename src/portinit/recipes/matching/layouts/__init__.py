"""Which layouts make an array a parameter of PyTorch's shape, and which of them it is."""
