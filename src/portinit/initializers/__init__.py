"""Initializers: rules for the values of a parameter, one for each scheme."""
