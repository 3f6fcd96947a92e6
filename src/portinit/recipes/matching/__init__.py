"""Which array of one model holds which parameter of another, for any framework.

In reading order:

1. ``trees``: what a model says of its arrays: paths, kinds of layers, recurrent cells
2. ``request`` and ``tables``: what the user states
3. ``uses``: how forward passes use their parameters
4. ``names``: arrays and parameters paired by their names
5. ``structure``: those paired by what their modules hold
6. ``layouts``: how each array lies
7. ``matcher``: all of it, in this order; ``misfits``: what is left over, in words
8. ``plans``: what each array gets; ``assembly``: arrays made of several parameters
9. ``evidence``, ``result``: what users see
10. ``conversions``: tables read off functions that convert weights

A framework's adapter derives a :class:`portinit.recipes.matching.trees.tree.Tree` and calls
``plans.leaf_plans`` and ``plans.match``.
"""
