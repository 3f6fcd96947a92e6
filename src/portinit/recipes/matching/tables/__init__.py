"""Tables of names that users state: targets, patterns, stacks and joined arrays."""
