"""portinit against the frameworks' own functions: ``python -m benchmarks`` from the root."""
