"""The past inside the mount: `.kvfs/at`, `.kvfs/snapshots` and `.kvfs/history`.

Everything here only reads. A *view* is the whole store as it was, opened a
second time at a fixed sequence number, beside the live one; its nodes have
numbers of their own (see `numbers`), by which the session tells their requests
from those of live nodes. What takes long, such as opening a view, is done in a
thread while the mount goes on, and who asked is answered then (see `later`).
"""

from kvfs.filesystem.past.numbers import END, FIRST, is_past
from kvfs.filesystem.past.place import listing
from kvfs.filesystem.past.requests import CONTROL_NAMES, Past

__all__ = ["CONTROL_NAMES", "END", "FIRST", "Past", "is_past", "listing"]
