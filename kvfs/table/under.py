"""A table for another one to stand on, as one stands on a checkpoint: see `Base`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.table.table import Table


class Under:
    """What a table asks of the one that it stands on, which must not change meanwhile."""

    tracks = False

    def __init__(self, table: Table) -> None:
        """Let another one stand on `table`."""
        self._table = table
        self._nodes = table.nodes
        self.limit = table.next_ino
        self._sorted: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        """Return how many nodes it has."""
        return len(self._nodes)

    def row(self, ino: int) -> bytes | None:
        """Return the row of the node `ino`, if there is one."""
        return self._nodes.row(ino)

    def numbers(self) -> Iterator[int]:
        """Yield the numbers of all its nodes, ascending."""
        return iter(sorted(self._nodes))

    def entry(self, directory: int, name: bytes) -> int | None:
        """Return the number of what `directory` has under `name`, if anything."""
        node = self._nodes.directory(directory)
        return None if node is None else node.entries.get(name)

    def entries(self, directory: int, start: int = 0) -> Iterator[tuple[bytes, int, int, int]]:
        """Yield the names of `directory` from the position `start` on: see `Base`."""
        node = self._nodes.directory(directory)
        if node is None:
            return
        names = self._sorted.get(directory)
        if names is None:
            names = self._sorted[directory] = sorted(node.entries)
        for position in range(start, len(names)):
            name = names[position]
            number = node.entries.get(name)
            if number is not None:
                yield name, number, self._nodes.type_of(number), position + 1
