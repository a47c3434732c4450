"""One file per plug-in: families."""
