"""Two trees of modules paired by what they hold, what they are called, and their order."""
