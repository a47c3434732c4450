"""Recommendations written for something else to read: a file for each format."""
