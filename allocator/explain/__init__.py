"""What scored allocations say: importance, interactions, and why this allocation."""
