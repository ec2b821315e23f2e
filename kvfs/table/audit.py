"""Whether a table fits together: names, link counts, sizes, nothing left over."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kvfs.table.node import Directory, File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.table.node import Node
    from kvfs.table.table import Table


def audit(table: Table) -> Iterator[str]:
    """Yield a sentence for each thing in `table` that contradicts another."""
    names: Counter[int] = Counter()
    stack: list[Directory] = [table.root, table.control]
    reached = {directory.ino for directory in stack}
    while stack:
        directory = stack.pop()
        yield from _of_directory(table, directory)
        for ino in directory.entries.values():
            names[ino] += 1
            node = table.nodes.look(ino)
            if isinstance(node, Directory) and ino not in reached:
                stack.append(node)
            reached.add(ino)
    values = sum(names[ino] for ino in table.nodes if table.nodes.is_file(ino))
    if values != table.values:
        yield f"{values} values are there, {table.values} are counted"
    for ino in table.nodes:
        if ino not in reached:
            yield f"inode {ino} has no way to it from the root"
        node = table.nodes.look(ino)
        assert node is not None
        yield from _of_node(node, names[ino])


def _of_directory(table: Table, directory: Directory) -> Iterator[str]:
    subdirs = 0
    for name, ino in directory.entries.items():
        node = table.nodes.look(ino)
        if node is None:
            yield f"directory {directory.ino} names {name!r}, inode {ino}, which is not there"
        elif (directory.ino, name) not in node.names():
            yield f"inode {ino} does not know its name {name!r} in directory {directory.ino}"
        subdirs += isinstance(node, Directory)
    if subdirs != directory.subdirs:
        yield f"directory {directory.ino} counts {directory.subdirs} directories, not {subdirs}"


def _of_node(node: Node, names: int) -> Iterator[str]:
    if names and node.nlink != names:
        yield f"inode {node.ino} has {names} names and counts {node.nlink}"
    if isinstance(node, File):
        end = 0
        for extent in node.extents:
            if extent.start < end or extent.length <= 0:
                yield f"the extents of inode {node.ino} are out of order at {extent.start}"
            end = extent.end
        if end > node.length:
            yield f"inode {node.ino} has data up to {end}, but a size of {node.length}"
