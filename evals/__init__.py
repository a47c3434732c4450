"""Score predictions: samples in, predictions in, score out; no model, no torch."""
