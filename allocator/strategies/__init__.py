"""One file per plug-in: strategies."""
