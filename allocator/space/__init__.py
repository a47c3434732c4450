"""What may be chosen and what it costs: a model's space, a table's, fronts."""
