"""One file per metric of a user's own data."""
