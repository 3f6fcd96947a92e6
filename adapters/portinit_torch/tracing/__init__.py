"""Reading a PyTorch model's initialisation off its constructor.

In reading order; each module imports only those above it:

1. ``modes``: fake tensors and the ways out of them; ``reads``, ``patches``: how a trace hears of
   all that a constructor does to them
2. ``calls``: an operation's arguments by name
3. ``marks``: when a generator is set
4. ``storage``, ``witness``: values that stand in for random ones where a constructor reads them
5. ``nodes``: a node while it is recorded, and how its value lies in memory
6. ``recorder``: one run of a constructor on fake tensors; what each storage holds
7. ``operations``: the nodes for ATen's operations
8. ``draws``, ``questions``: random draws, and the numbers that a constructor reads
9. ``lowering``: recording one operation
10. ``comparison``, ``leftovers``, ``runs``: several runs, and what each leaves behind
11. ``rectangles``, ``recognition``, ``refusal``: initializers that have names, and what has none
12. ``relations``, ``trace``: the recipe
"""
