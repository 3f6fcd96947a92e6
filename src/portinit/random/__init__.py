"""A key and a counter give a 32-bit word."""
