"""`python -m kvfs` is the command `kvfs`."""

from kvfs.cli import main

main()
