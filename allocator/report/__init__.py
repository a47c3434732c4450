"""Text, JSON and figures of a finished search."""
