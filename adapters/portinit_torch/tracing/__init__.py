"""Reading a PyTorch model's initialisation off its constructor.

``recorder`` runs the constructor on fake tensors, under the ``modes``, and follows what each
storage holds; ``lowering`` and ``draws`` turn ATen's operations into nodes; ``marks`` tells when a
generator is set; ``recognition`` and ``rectangles`` find the initializers that have names;
``trace`` makes the recipe.
"""
