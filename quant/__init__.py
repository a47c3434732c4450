"""Turn weights into low-bit grids: tensors in, tensors out."""
