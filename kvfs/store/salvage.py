"""What of a damaged log can be kept without giving any key a value that it never had.

What is lost can make wrong what follows it, and what damaged bytes say of
themselves is only a hint. So:

- of a batch that is not whole, nothing is kept;
- after any loss, no value that was there before takes a change in place (a
  write or a cut) until it has been replaced as a whole; where a hard link may be
  lost, a change that is refused counts as a loss of its own;
- a record that fits no state any more, such as a write to a file whose
  creation is lost, is lost too;
- a record that makes something proves that its place was free, so what is there
  goes; and a value is put through one name of a file that has more only where
  the link was made since;
- what a lost record may have kept private does not become public: directories
  on the way to a key, and files that a record makes without saying their mode,
  are made for the owner alone, and the mode of what was there before becomes
  stricter only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kvfs.errors import KvfsError
from kvfs.records import (
    Attrs,
    Delete,
    Link,
    Location,
    Mkdir,
    Mknod,
    Put,
    Rename,
    Setattr,
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
    from kvfs.records import Record
    from kvfs.store.pieces import Piece
    from kvfs.table import Node, Table

_BATCH = "its batch is not whole"
_STALE = "it changes a value in place, and an earlier change may be lost"
_NARROWED = "of owner and mode it sets only what is stricter: it may be of another file"
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
    """A key that has lost records, and what it named then."""

    def __init__(self) -> None:
        self.nodes: set[int] = set()
        self.attributes = True  # nothing but attributes is lost


class Salvage:
    """Brings the pieces of a damaged log into a new one, as far as they can be kept."""

    def __init__(self, log: Log, table: Table) -> None:
        """Append to the empty `log`; `table` is the state of the new log."""
        self._log = log
        self._table = table
        self._batch: list[Piece] = []
        self._before: list[Record] = []
        """What has to be logged before the batch; the table has it already."""
        self._after_loss = False
        self._fresh: set[int] | None = None
        """Nodes that were made, or put as a whole, since the last loss; None if there was none."""
        self._may_share = False
        """Whether names may be of one file, or not, that are not so here, as where a link may be lost:
        then what is put or refused may have been of any file."""
        self._touched: dict[bytes, _Touched] = {}
        self._whole: set[int] = set()
        """Files that were put as a whole after the last loss that named them."""
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
            self._may_share = self._may_share or piece.lost.record in _LINKS
            self._fresh = set()
            self._after_loss = True
        else:
            self._batch.append(piece)
            if not piece.more:
                self._end_batch()

    def note(self, lost: Lost) -> None:
        """Note a loss that says nothing of what comes before and after it."""
        self._lose(lost)

    def end(self) -> None:
        """Note that the old log ends here. Raises what the new log says."""
        self._drop_batch(_BATCH)
        for path in reversed(self.directories):
            directory = self._table.find_directory(path)
            if directory is not None and not directory.entries:
                # It was there for the keys below it, as far as anybody knows.
                self._do_before(Delete(path, directory=True, time=directory.ctime))
        self._log_before()
        self._table.detached.clear()

    def fates(self) -> list[Fate]:
        """Return what became of each key that has lost a record, in the order of the losses."""
        changed = (touched for touched in self._touched.values() if not touched.attributes)
        stale = {number for touched in changed for number in touched.nodes} - self._whole
        return [self._fate(key, touched, stale) for key, touched in self._touched.items()]

    # -- keeping -------------------------------------------------------------

    def _end_batch(self) -> None:
        batch: list[Any] = [piece.record for piece in self._batch]
        # A new file has its extended attributes in its batch, behind what may be lost.
        headless = self._after_loss and isinstance(batch[0], Setxattr)
        self._after_loss = False
        if headless or not _is_whole(batch):
            self._drop_batch(_BATCH)
        elif isinstance(batch[0], Write | Truncate) and not self._is_fresh(
            self._table.number_of(batch[0].key)
        ):
            self._drop_batch(_STALE)
        else:
            self._keep_batch(batch)

    def _is_fresh(self, number: int | None) -> bool:
        return self._fresh is None or number in self._fresh

    def _keep_batch(self, batch: list[Any]) -> None:
        place = self._batch[0].lost
        refusal = None
        new = isinstance(batch[0], _MAKING)
        if isinstance(batch[0], Mkdir):
            new = self._table.find_directory(batch[0].key) is None
        try:
            if self._fresh is not None:
                batch[0] = self._prepared(batch[0])
            for record in batch:
                self._table.apply(record, Location(1, place.offset, place.length))
        except KvfsError as error:
            refusal = str(error)
        self._log_before()
        if refusal is not None:
            self._drop_batch(refusal)
            return
        self._batch.clear()
        self._table.detached.clear()
        self._log.append(batch, atomic=len(batch) > 1)
        self._note_made(batch[0], new=new)

    def _do_before(self, record: Record) -> None:
        """Apply `record`, which will be logged before the batch."""
        self._table.apply(record, None)
        self._before.append(record)

    def _log_before(self) -> None:
        for record in self._before:
            self._log.append([record])
        self._before.clear()

    def _note_made(self, record: Any, *, new: bool) -> None:
        """Note what `record`, which is kept, has made, if it is `new`, or put as a whole."""
        node = self._named(record.key, directory=isinstance(record, Mkdir))
        if not new or node is None or self._fresh is None:
            return
        if isinstance(record, Put):
            if self._may_share:
                # What was put before may have been this very file.
                self._fresh, self._whole = set(), set()
            self._whole.add(node.ino)
        self._fresh.add(node.ino)

    # -- what is kept after a loss, as it can be kept ----------------------------

    def _prepared(self, record: Any) -> Any:
        """Return `record` as it can be kept, with what has to be there, and not there, before it."""
        if isinstance(record, Setattr):
            return self._narrowed(record)
        if isinstance(record, Put | Symlink | Mknod | Link):
            self._free(record)
        if isinstance(record, _NAMING) and self._has_source(record):
            self._make_way(record)
        return self._made_privately(record) if isinstance(record, _MAKING) else record

    def _narrowed(self, record: Setattr) -> Setattr:
        """Return `record` without what could make public what it was not meant for."""
        attrs = record.attrs
        node = self._named(record.key, directory=record.directory)
        if node is None or self._is_fresh(node.ino):
            return record
        mode = None if attrs.mode is None else attrs.mode & node.mode
        narrowed = attrs._replace(mode=mode, uid=None, gid=None)
        if narrowed != attrs:
            self._lose(self._batch[0].lost._replace(reason=_NARROWED))
        return record._replace(attrs=narrowed)

    def _free(self, record: Any) -> None:
        """Remove what is where `record` makes something, as its removal must be lost."""
        key = getattr(record, "new", record.key)
        node = self._table.find(key)
        if node is None or not self._has_source(record):
            return
        if isinstance(record, Put) and isinstance(node, File):
            anew = any(value is not None for value in _making_attrs(record.attrs))
            shared = node.nlink > 1 and not self._is_fresh(node.ino)
            if not anew and not shared:
                return
            self._may_share = self._may_share or shared
        for name in self._names(node):
            if name != key:
                self._touch(name, only_attributes=False)
        self._do_before(Delete(key, time=record.time))

    def _has_source(self, record: Any) -> bool:
        """Tell whether there is what a link or a rename names; of others, that there need be none."""
        if not isinstance(record, Link | Rename):
            return True
        if isinstance(record, Rename) and record.exchange:
            return False  # it needs both, and makes nothing
        if getattr(record, "directory", False):
            return self._table.find_directory(record.key) is not None
        source = self._table.number_of(record.key)
        return source is not None and source != self._table.number_of(record.new)

    def _make_way(self, record: Any) -> None:
        """Make the directories that `record` would make without saying their modes."""
        target: bytes = getattr(record, "new", record.key)
        for above in _above(target, self._table.missing(target)):
            self._do_before(Mkdir(above, _PRIVATE_DIRECTORY, record.time))
            self.directories.append(above)

    def _made_privately(self, record: Any) -> Any:
        """Return `record`, which makes something, so that it is no more public than it was."""
        key, attrs = record.key, record.attrs
        if isinstance(record, Put) and self._table.number_of(key) is None and attrs.mode is None:
            attrs = attrs._replace(mode=_PRIVATE)
        if isinstance(record, Mkdir) and attrs.mode is not None:
            there = self._table.find_directory(key)
            if there is not None:
                mode = attrs.mode & there.mode
                self._do_before(Setattr(key, Attrs(mode=mode), directory=True, time=record.time))
        if attrs.ino is not None and attrs.ino in self._table.nodes:
            attrs = attrs._replace(ino=None)  # counting has come to it without what is lost
        return record._replace(attrs=attrs)

    # -- losing --------------------------------------------------------------

    def _drop_batch(self, reason: str) -> None:
        for piece in self._batch:
            self._lose(piece.lost._replace(reason=reason))
            self._may_share = self._may_share or isinstance(piece.record, Link)
        if self._batch and (reason != _STALE or self._may_share):
            self._fresh = set()
        self._batch.clear()

    def _lose(self, lost: Lost) -> None:
        self.lost.append(lost)
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
            self._whole.discard(number)
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

    def _fate(self, key: bytes, touched: _Touched, stale: set[int]) -> Fate:
        table = self._table
        node = table.find(key)
        state = "older"
        if node is None:
            left = (table.node(number) for number in sorted(touched.nodes))
            node = next((found for found in left if found), None)
        elif node.ino not in stale:
            only_attributes = touched.attributes and node.ino in touched.nodes
            state = "attributes" if only_attributes else "replaced"
        if node is not None:
            size = node.size if isinstance(node, File) else None
            return Fate(key, state, self._names(node), size, node.mtime)
        directory = table.find_directory(key)
        if directory is not None:
            return Fate(key, "attributes", (key,), None, directory.mtime)
        return Fate(key, "gone")

    def _named(self, key: bytes, *, directory: bool) -> Node | None:
        """Return what `key` names, or the directory at that path."""
        return self._table.find_directory(key) if directory else self._table.find(key)

    def _names(self, node: Node) -> tuple[bytes, ...]:
        """Return all keys of `node`, sorted."""
        found = [
            self._table.key_at(self._table.directory(parent), name) for parent, name in node.names()
        ]
        return tuple(sorted(key for key in found if key is not None))


def _making_attrs(attrs: Attrs) -> tuple[int | None, ...]:
    """Return those of `attrs` that only a record has that makes a node."""
    return attrs.mode, attrs.uid, attrs.gid, attrs.born, attrs.ino


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
