"""Who computes values: array namespaces, threads and compiled kernels."""
