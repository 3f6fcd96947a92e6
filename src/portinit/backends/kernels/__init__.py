"""Fills in one compiled pass: the same bytes as array operations, from machine code."""
