"""How forward passes use their parameters: what is summed over, and in which turn."""
