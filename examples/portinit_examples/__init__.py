"""Twin models, written once in PyTorch and once in Flax, that the examples and tests port.

Each twin is a pair of modules, ``<name>_torch`` and ``<name>_flax``, so that one framework can be
imported without the other. Both have ``make_model()``, which builds the model with its default
sizes, and ``example_input()``, which gives the same numbers in that framework's own convention.

The Flax module exports ``NAMES`` (Flax path -> PyTorch name) where the names do not follow from
each other, and ``LAYOUTS`` (PyTorch name -> layout) where the axes do not.
"""
