"""PyTorch's CPU kernels in NumPy, bit for bit: functions, sums, factorisations."""
