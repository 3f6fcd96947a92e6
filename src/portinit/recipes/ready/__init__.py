"""Ready recipes: what frameworks do by themselves, what model families do, and schemes from papers.

A family's recipe speaks of PyTorch's names, which a Flax tree's paths are translated to. Put rules
of your own in front: ``Recipe([("head.*", portinit.zeros)]) + recipes.gpt2(layers=12)``.
"""
