"""A search's crew: who does pieces of it beside the process that leads it."""
