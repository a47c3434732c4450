"""One file per plug-in: exporters."""
