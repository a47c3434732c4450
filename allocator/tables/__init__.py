"""The search of a table of measurements."""
