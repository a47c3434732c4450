"""The command line."""

from allocator.cli.search import main as main
