"""What of a damaged log can be kept without giving any key a value that it never had.

What is lost can make wrong what follows it, and what damaged bytes say of
themselves is only a hint. So:

- of a batch that is not whole, nothing is kept;
- after any loss, no value that was there before takes a change in place (a
  write or a cut) until it has been replaced as a whole; where a hard link may be
  lost, a change that is refused counts as a loss of its own;
- a record that fits no state any more, such as a write to a file whose
  creation is lost, is lost too;
- what a lost record may have kept private does not become public: directories
  that are missing on the way to a key are made for the owner alone, and so are
  files that are made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.errors import KvfsError
from kvfs.records import (
    Attrs,
    Link,
    Location,
    Mkdir,
    Mknod,
    Put,
    Rename,
    Setxattr,
    Symlink,
    Truncate,
    Write,
)
from kvfs.store.pieces import HEADER, Lost
from kvfs.table import File
from kvfs.table.table import MAX_FILE, MAX_TIME

if TYPE_CHECKING:
    from kvfs.log import Log
    from kvfs.store.pieces import Piece
    from kvfs.table import Node, Table

_BATCH = "its batch is not whole"
_STALE = "it changes a value in place, and an earlier change may be lost"
_ATTRIBUTES = {"Setattr", "Setxattr", "Removexattr"}
_LINKS = {None, "Link", "Rename", "Setattr", "Removexattr"}
"""What damaged bytes seem to be that may have been a link: nothing, or a bit from its type."""
_MAKING = (Put, Symlink, Mknod, Mkdir)
_NAMING = (*_MAKING, Link, Rename)
_PRIVATE_DIRECTORY = Attrs(mode=0o700)
_PRIVATE = 0o600


class Fate(NamedTuple):
    """What became of a key that has lost a record.

    `state` is "replaced" if a later value, whole, made the loss void; "older"
    if the value is one from before the loss; "attributes" if only attributes
    may be older; "gone" if there is none. `now` are the keys of that value,
    others where it was renamed or linked; `size` and `mtime` (ns) are its.
    """

    key: bytes
    state: str
    now: tuple[bytes, ...] = ()
    size: int | None = None
    mtime: int | None = None


class _Touched:
    """A key that has lost records: what it named then, and what it has been given since."""

    def __init__(self) -> None:
        self.nodes: set[int] = set()
        self.whole: int | None = None
        self.attributes = True  # nothing but attributes is lost


class Salvage:
    """Brings the pieces of a damaged log into a new one, as far as they can be kept."""

    def __init__(self, log: Log, table: Table) -> None:
        """Append to the empty `log`; `table` is the state of the new log."""
        self._log = log
        self._table = table
        self._batch: list[Piece] = []
        self._after_loss = False
        self._fresh: set[int] | None = None
        """Files with a value put as a whole since the last loss; None if there was no loss."""
        self._may_share = False
        """Whether a link may be lost: then a change that is refused may have been of any file."""
        self._touched: dict[bytes, _Touched] = {}
        self.lost: list[Lost] = []
        self.directories: list[bytes] = []
        """Directories that were made for the owner alone."""

    def take(self, piece: Piece) -> None:
        """Take the next piece of the old log. Raises what the new log says."""
        if piece.lost.record == HEADER:
            self.lost.append(piece.lost)  # no record is lost by it
        elif piece.record is None:
            self._drop_batch(_BATCH)
            self._lose(piece.lost)
            self._fresh = set()
            self._after_loss = True
        else:
            self._batch.append(piece)
            if not piece.more:
                self._end_batch()

    def end(self) -> None:
        """Note that the old log ends here."""
        self._drop_batch(_BATCH)

    def fates(self) -> list[Fate]:
        """Return what became of each key that has lost a record, in the order of the losses."""
        return [self._fate(key, touched) for key, touched in self._touched.items()]

    # -- keeping -------------------------------------------------------------

    def _end_batch(self) -> None:
        batch: list[Any] = [piece.record for piece in self._batch]
        # A new file has its extended attributes in its batch, behind what may be lost.
        headless = self._after_loss and isinstance(batch[0], Setxattr)
        self._after_loss = False
        if headless or not _is_whole(batch):
            self._drop_batch(_BATCH)
        elif isinstance(batch[0], Write | Truncate) and not self._is_fresh(batch[0].key):
            self._drop_batch(_STALE)
        else:
            self._keep_batch(batch)

    def _is_fresh(self, key: bytes) -> bool:
        return self._fresh is None or self._table.number_of(key) in self._fresh

    def _keep_batch(self, batch: list[Any]) -> None:
        place = self._batch[0].lost
        try:
            batch[0] = self._prepared(batch[0])
            for record in batch:
                self._table.apply(record, Location(1, place.offset, place.length))
        except KvfsError as error:
            self._drop_batch(str(error))
            return
        self._batch.clear()
        self._table.detached.clear()
        self._log.append(batch, atomic=len(batch) > 1)
        if isinstance(batch[0], Put):
            self._note_whole(batch[0].key)

    def _prepared(self, record: Any) -> Any:
        """Return `record` as it can be kept after a loss, with its directories there."""
        if self._fresh is None:
            return record
        self._make_way(record)
        if not isinstance(record, _MAKING):
            return record
        attrs = record.attrs
        is_new = isinstance(record, Put) and self._table.number_of(record.key) is None
        if is_new and attrs.mode is None and record.key in self._touched:
            attrs = attrs._replace(mode=_PRIVATE)
        if attrs.ino is not None and attrs.ino in self._table.nodes:
            attrs = attrs._replace(ino=None)  # counting has come to it without what is lost
        return record._replace(attrs=attrs)

    def _make_way(self, record: Any) -> None:
        """Make the directories that `record` would make without saying their modes."""
        if not isinstance(record, _NAMING) or getattr(record, "exchange", False):
            return
        target: bytes = getattr(record, "new", record.key)
        for above in _above(target, self._table.missing(target)):
            made = Mkdir(above, _PRIVATE_DIRECTORY, record.time)
            self._table.apply(made, None)
            self._log.append([made])
            self.directories.append(above)

    def _note_whole(self, key: bytes) -> None:
        """Note that `key` has a value that no loss has touched."""
        number = self._table.number_of(key)
        if number is not None and self._fresh is not None:
            self._fresh.add(number)
        if key in self._touched:
            self._touched[key].whole = number

    # -- losing --------------------------------------------------------------

    def _drop_batch(self, reason: str) -> None:
        for piece in self._batch:
            self._lose(piece.lost._replace(reason=reason))
        if self._batch and (reason != _STALE or self._may_share):
            self._fresh = set()
        self._batch.clear()

    def _lose(self, lost: Lost) -> None:
        self.lost.append(lost)
        self._may_share = self._may_share or lost.record in _LINKS
        only_attributes = lost.record in _ATTRIBUTES
        for key in (lost.key, lost.new):
            if key is not None:
                self._touch(key, only_attributes=only_attributes)
                if lost.directory and not only_attributes:
                    self._touch_below(key)

    def _touch(self, key: bytes, *, only_attributes: bool) -> None:
        touched = self._touched.setdefault(key, _Touched())
        number = self._table.number_of(key)
        if number is not None:
            touched.nodes.add(number)
        touched.whole = None
        touched.attributes = touched.attributes and only_attributes

    def _touch_below(self, path: bytes) -> None:
        """Note a loss for every value below the directory `path`."""
        todo = [(path, self._table.find_directory(path))]
        while todo:
            path, directory = todo.pop()
            for name, number in directory.entries.items() if directory else ():
                key = path + b"/" + name if path else name
                below = self._table.nodes.directory(number)
                if below is not None:
                    todo.append((key, below))
                else:
                    self._touch(key, only_attributes=False)

    def _fate(self, key: bytes, touched: _Touched) -> Fate:
        table = self._table
        node = table.find(key)
        state = "older"
        if node is None:
            left = (table.node(number) for number in sorted(touched.nodes))
            node = next((found for found in left if found), None)
        elif touched.attributes and node.ino in touched.nodes:
            state = "attributes"
        elif touched.whole == node.ino or node.ino not in touched.nodes:
            state = "replaced"
        if node is not None:
            size = node.size if isinstance(node, File) else None
            return Fate(key, state, self._names(node), size, node.mtime)
        directory = table.find_directory(key)
        if directory is not None:
            return Fate(key, "attributes", (key,), None, directory.mtime)
        return Fate(key, "gone")

    def _names(self, node: Node) -> tuple[bytes, ...]:
        """Return all keys of `node`, sorted."""
        found = [
            self._table.key_at(self._table.directory(parent), name) for parent, name in node.names()
        ]
        return tuple(sorted(key for key in found if key is not None))


def _is_whole(batch: list[Any]) -> bool:
    """Tell whether `batch` is one that a writer makes: of one key, with data that leaves no gap."""
    first, *rest = batch
    end = len(first.data) if isinstance(first, Put) else None
    if isinstance(first, Write):
        end = first.offset + len(first.data)
    for record in rest:
        if record.key != first.key or not 0 <= record.time < MAX_TIME:
            return False
        if isinstance(record, Write):
            if record.offset != end:
                return False
            end += len(record.data)
        elif not isinstance(record, Setxattr) or record.directory is not isinstance(first, Mkdir):
            return False
    return (end or 0) <= MAX_FILE


def _above(key: bytes, missing: int) -> list[bytes]:
    """Return the last `missing` paths on the way to `key`, the outermost first."""
    parts = key.split(b"/")
    return [b"/".join(parts[:end]) for end in range(len(parts) - missing, len(parts))]
