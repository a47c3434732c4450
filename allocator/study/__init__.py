"""What is kept of a search: trials, looks, scores of each sample, who is at work."""
