"""Tables of names read off functions that convert weights."""
