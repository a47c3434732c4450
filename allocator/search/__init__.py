"""The search: goals, proposals, rungs, narrowing, confirmation."""
