"""Which array of one model holds which parameter of another, for any framework.

In reading order: ``leaf`` and ``tree`` say what a model has; ``request`` and ``tables`` what the
user states; ``known_names`` what a recipe has. ``stacked_layers`` splits arrays that hold several
parameters. ``matcher`` pairs leaves and parameters, by names (``by_name``, ``rewritten``,
``words``) and by structure (``alignment``); ``leaf_layouts`` and ``layouts`` say how each lies.
``uses``, read off by ``dataflow`` and ``axes``, says how forward passes use both. ``plans`` checks
all of it and says what each leaf gets; ``result`` is what users see of it.

A framework's adapter derives a :class:`portinit.recipes.matching.tree.Tree` and calls
``plans.leaf_plans`` and ``plans.match``.
"""
