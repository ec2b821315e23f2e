"""Checkpoints: the table at one place of the log, in a file that is looked up, not loaded.

`read` is for who stands on one, `write` for who makes one; `blocks` is how both
keep rows in order.
"""

from kvfs.checkpoint.format import BadCheckpointError, Position
from kvfs.checkpoint.read import Checkpoint
from kvfs.checkpoint.write import agrees, live_of, write

__all__ = ["BadCheckpointError", "Checkpoint", "Position", "agrees", "live_of", "write"]
