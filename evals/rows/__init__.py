"""A user's own file: rows read with care, and meant as samples of a task."""
