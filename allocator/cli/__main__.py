"""`python -m allocator.cli` is `allocate`."""

from allocator.cli import main

main(prog_name="allocate")
