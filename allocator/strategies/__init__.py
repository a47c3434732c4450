"""Ways to propose allocations within a budget: a file for each, Optuna samplers all."""
