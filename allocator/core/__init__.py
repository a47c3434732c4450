"""The vocabulary as frozen values; standard library only."""
