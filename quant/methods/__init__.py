"""One file per quantization method."""
