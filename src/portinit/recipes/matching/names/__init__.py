"""Arrays and parameters paired by their names: as written, translated, or in other words."""
