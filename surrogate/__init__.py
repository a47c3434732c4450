"""Tree models of the measured scores: predict, explain, prune."""
