"""The inode table: the state of a store, rebuilt by replaying its log.

A pure state machine: `Table.apply(record, location)` and nothing else changes
it, without a clock, a random number or any I/O.
"""

from kvfs.table.audit import audit
from kvfs.table.content import Extent
from kvfs.table.node import (
    CONTROL_INO,
    KEYS_INO,
    ROOT_INO,
    Directory,
    File,
    Node,
    Special,
    Symlink,
    is_aside,
)
from kvfs.table.table import Table

__all__ = [
    "CONTROL_INO",
    "KEYS_INO",
    "ROOT_INO",
    "Directory",
    "Extent",
    "File",
    "Node",
    "Special",
    "Symlink",
    "Table",
    "audit",
    "is_aside",
]
