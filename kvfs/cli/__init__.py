"""The command line: one verb each, thin over the store and the daemon.

Exit status: 0 for success, 1 for a failure, 2 for wrong usage. What goes wrong
is one line on standard error that says what to do; never a traceback.
"""

from kvfs.cli.main import main

__all__ = ["main"]
