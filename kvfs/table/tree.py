"""The tree of the table: nodes, names, and which key stands where.

A key stands at its path if that is legal and no directory is there; otherwise
it stands *aside*, below `.kvfs/keys/`. The invariant, kept by every step: a
legal key stands aside only while a directory has its path.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from kvfs import keys
from kvfs.errors import PosixError
from kvfs.table.entries import Names
from kvfs.table.inodes import Inodes
from kvfs.table.lifetimes import Expiries
from kvfs.table.node import (
    CONTROL_INO,
    FIRST_INO,
    FIRST_PIECE,
    KEYS_INO,
    ROOT_INO,
    Directory,
    File,
    Node,
    is_aside,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.table.entries import Base


class TreeState(NamedTuple):
    """What a tree has beside its nodes and names.

    The next number of a node, and of a directory for a long key; how many keys
    have a value; the keys that stand aside because a directory has their path; and
    the numbers of the files that have a lifetime, each with its end, ascending.
    """

    next_ino: int
    next_piece: int
    values: int
    shadowed: frozenset[bytes]
    expiries: tuple[tuple[int, int], ...] = ()


class Tree:
    """Nodes and names, without any notion of records.

    `detached` collects the nodes that lost their last name, for the caller to
    drain; `values` counts the keys that have a value.
    """

    def __init__(
        self, uid: int, gid: int, created: int, below: tuple[Base, TreeState] | None = None
    ) -> None:
        """Make a tree whose defaults are owner `uid`:`gid` and time `created`.

        It is empty, or as a checkpoint has it: `below` are its nodes and all else.
        """
        self.uid = uid
        self.gid = gid
        self.detached: list[Node] = []
        base, state = below or (None, _EMPTY)
        self.nodes = Inodes(base)
        self.next_ino, self._next_piece, self.values, shadowed, expiries = state
        self._next_implicit = self.next_ino  # until `number` says
        self._shadowed = set(shadowed)
        self.expiries = Expiries(expiries)
        if base is None:
            self._make_own(created)
        self.root = self.directory(ROOT_INO)
        self.control = self.directory(CONTROL_INO)

    def _make_own(self, created: int) -> None:
        """Make the directories that are there in every store."""
        for ino in (ROOT_INO, CONTROL_INO, KEYS_INO):
            node = Directory(ino, 0o755, self.uid, self.gid)
            node.atime = node.mtime = node.ctime = created
            self.nodes.add(node)
        self.directory(ROOT_INO).add_name(ROOT_INO, b"")
        self.directory(CONTROL_INO).add_name(ROOT_INO, keys.CONTROL)
        self.attach(self.directory(KEYS_INO), self.directory(CONTROL_INO), keys.KEYS)

    def state(self) -> TreeState:
        """Return what there is beside the nodes and names."""
        shadowed, expiries = frozenset(self._shadowed), self.expiries.all()
        return TreeState(self.next_ino, self._next_piece, self.values, shadowed, expiries)

    # -- looking -----------------------------------------------------------

    def node(self, ino: int) -> Node | None:
        """Return the node with the number `ino`."""
        return self.nodes.get(ino)

    def directory(self, ino: int) -> Directory:
        """Return the directory `ino`.

        Raises `PosixError` ENOENT or ENOTDIR.
        """
        node = self.nodes.get(ino)
        if not isinstance(node, Directory):
            raise PosixError(errno.ENOENT if node is None else errno.ENOTDIR)
        return node

    def child_number(self, parent: Directory, name: bytes) -> int | None:
        """Return the number of what `parent` has under `name`; `.kvfs` is in the root."""
        ino = parent.entries.get(name)
        if ino is None and parent is self.root and name == keys.CONTROL:
            return CONTROL_INO
        return ino

    def child(self, parent: Directory, name: bytes) -> Node | None:
        """Return what `parent` has under `name`; `.kvfs` is in the root."""
        ino = self.child_number(parent, name)
        return None if ino is None else self.nodes[ino]

    def directory_at(self, names: list[bytes]) -> Directory | None:
        """Return the directory at the path `names` from the root, if there is one."""
        directory: Directory | None = self.root
        for name in names:
            if directory is None:
                return None
            directory = self.nodes.directory(directory.entries.get(name))
        return directory

    def place(self, key: bytes) -> tuple[Directory | None, bytes]:
        """Return the directory and the name where `key` stands, or would stand.

        The directory is None if it is not there yet.
        """
        root = self.root
        ino = root.entries.get(key)
        if keys.is_plain(key) if ino is None else self.nodes.directory(ino) is None:
            return root, key  # by far the most common
        names = keys.split(key)
        if names is not None:
            parent = self.directory_at(names[:-1])
            if parent is None:
                return None, names[-1]
            if self.nodes.directory(parent.entries.get(names[-1])) is None:
                return parent, names[-1]
        pieces = keys.encode(key)
        aside = self.nodes.directory(KEYS_INO)
        for piece in pieces[:-1]:
            aside = self.nodes.directory(aside.entries.get(piece)) if aside else None
        return aside, pieces[-1]

    def number_of(self, key: bytes) -> int | None:
        """Return the inode number of what `key` names, if anything; never a directory's."""
        ino = self.root.entries.get(key)
        if keys.is_plain(key) if ino is None else self.nodes.directory(ino) is None:
            return ino  # by far the most common
        parent, name = self.place(key)
        return None if parent is None else parent.entries.get(name)

    def find(self, key: bytes) -> Node | None:
        """Return what `key` names, if anything; never a directory."""
        ino = self.number_of(key)
        return None if ino is None else self.nodes[ino]

    def look(self, key: bytes) -> Node | None:
        """Return what `find` does, for reading only: a file at rest stays so."""
        ino = self.number_of(key)
        return None if ino is None else self.nodes.look(ino)

    def find_directory(self, key: bytes) -> Directory | None:
        """Return the directory at the path `key`; the empty key is the root."""
        names = keys.split(key) if key else []
        return None if names is None else self.directory_at(names)

    def key_at(self, parent: Directory, name: bytes) -> bytes | None:
        """Return the key of the name `name` in `parent`; None if it can be none."""
        if parent is self.root and name != keys.CONTROL:
            return name
        names = [name]
        while parent.ino not in (ROOT_INO, CONTROL_INO, KEYS_INO):
            names.append(parent.name)
            parent = self.directory(parent.parent)
        names.reverse()
        if parent is self.root:
            key = b"/".join(names)
            return None if names[0] == keys.CONTROL else keys.check(key)
        return keys.decode(names) if parent.ino == KEYS_INO else None

    def key_of(self, node: Node) -> bytes:
        """Return one key of a node that has a name; of the root, the empty one."""
        if node is self.root:
            return b""
        key = self.key_at(self.directory(node.parent), node.name)
        if key is None:
            raise PosixError(errno.EPERM)
        return key

    def valued(self) -> Iterator[bytes]:
        """Yield every key that has a value, in no order."""
        nodes = self.nodes
        stack: list[tuple[bytes, Directory]] = [(b"", self.root)]
        while stack:
            prefix, directory = stack.pop()
            for name, ino, is_file in self._kinds(directory):
                if is_file:
                    yield prefix + name
                elif (below := nodes.directory(ino)) is not None:
                    stack.append((prefix + name + b"/", below))
        yield from self._valued_aside()

    def _valued_aside(self) -> Iterator[bytes]:
        """Yield every key below `.kvfs/keys/` that has a value."""
        todo: list[tuple[list[bytes], Directory]] = [([], self.directory(KEYS_INO))]
        while todo:
            pieces, directory = todo.pop()
            for name, ino, is_file in self._kinds(directory):
                if not is_file and (below := self.nodes.directory(ino)) is not None:
                    todo.append(([*pieces, name], below))
                elif is_file and (key := keys.decode([*pieces, name])) is not None:
                    yield key

    def components(self, prefix: bytes) -> Iterator[bytes]:
        """Yield the keys that start with `prefix`, of those with a `/` behind it what that ends.

        In no order, and some more than once. Looks into one directory only.
        """
        path, slash, start = prefix.rpartition(b"/")
        directory = self.find_directory(path) if path or not slash else None
        if directory is not None:
            for name, ino, is_file in self._kinds(directory):
                if name.startswith(start) and (is_file or self.nodes.directory(ino) is not None):
                    yield path + slash + name + (b"" if is_file else b"/")
        for key in self._valued_aside():
            if key.startswith(prefix):
                end = key.find(b"/", len(prefix)) + 1
                yield key[:end] if end else key

    def _kinds(self, directory: Directory) -> Iterator[tuple[bytes, int, bool]]:
        """Yield every name in `directory` with its number, and whether that is a file's."""
        names, is_file = directory.entries, self.nodes.is_file
        changed = names.changed if isinstance(names, Names) else names
        for name, ino in changed.items():
            yield name, ino, is_file(ino)
        if isinstance(names, Names):
            yield from names.unchanged()

    def missing(self, key: bytes) -> int:
        """Return how many directories must come to be before `key` can stand."""
        if b"/" not in key:
            return 0
        names = keys.split(key)
        if names is None or len(names) == 1:
            return 0
        directory = self.root
        for index, name in enumerate(names[:-1]):
            below = self.nodes.directory(directory.entries.get(name))
            if below is None:
                return len(names) - 1 - index
            directory = below
        return 0

    # -- changing: only the steps of `apply` call these ----------------------

    def attach(self, node: Node, parent: Directory, name: bytes) -> None:
        """Give `node` the free name `name` in `parent`."""
        parent.entries[name] = node.ino
        node.add_name(parent.ino, name)
        if isinstance(node, Directory):
            node.nlink = 1
            parent.subdirs += 1
        elif isinstance(node, File):
            self.values += 1

    def detach(self, parent: Directory, name: bytes) -> Node:
        """Take the name `name` in `parent` from its node, and return that."""
        node = self.nodes[parent.entries.pop(name)]
        node.drop_name(parent.ino, name)
        if isinstance(node, Directory):
            parent.subdirs -= 1
        elif isinstance(node, File):
            self.values -= 1
        return node

    def drop(self, node: Node) -> None:
        """Forget a node that has no name any more."""
        if node.nlink == 0:
            self.nodes.remove(node)
            if self.expiries.times:
                self.expiries.set(node.ino, None)
            self.detached.append(node)

    def number(self, ino: int, missing: int) -> None:
        """Take `ino` for a new node, and those just below for `missing` directories before it.

        See docs/decisions/001-inode-numbers.md.
        """
        self._next_implicit = ino - missing
        self.next_ino = max(self.next_ino, ino + 1)

    def prepare(self, key: bytes, time: int) -> tuple[Directory, bytes]:
        """Make the directories where `key` will stand, and return its place.

        What stands in the way of a directory goes aside.
        """
        names = keys.split(key)
        if names is None:
            return self._prepare_aside(key)
        parent = self.root
        for name in names[:-1]:
            below = self.nodes.directory(parent.entries.get(name))
            parent = self._make_implicit(parent, name, time) if below is None else below
        if self.nodes.directory(parent.entries.get(names[-1])) is not None:
            self._shadowed.add(key)
            return self._prepare_aside(key)
        return parent, names[-1]

    def settle(self, path: bytes) -> None:
        """Bring the key `path` back to its path, once no directory has that."""
        if path not in self._shadowed or self.find_directory(path) is not None:
            return
        self._shadowed.discard(path)
        node = self._take_aside(path)
        if node is not None:
            parent, name = self.prepare(path, node.ctime)
            self.attach(node, parent, name)

    def unshadow(self, key: bytes) -> None:
        """Note that `key` stands aside no more."""
        self._shadowed.discard(key)

    def prune(self, directory: Directory) -> None:
        """Remove `directory`, and its parents, as far as they are implicit and empty."""
        while directory.implicit and not directory.entries:
            key = None if is_aside(directory.ino) else self.key_of(directory)
            parent = self.directory(directory.parent)
            self.drop(self.detach(parent, directory.name))
            if key is not None:
                self.settle(key)
            directory = parent

    def move_shadowed(self, old: bytes, new: bytes, *, exchange: bool) -> None:
        """Rename the keys aside whose directory went from below `old` to below `new`."""
        moves = {}
        for key in sorted(self._shadowed):  # in the same order at every replay
            if key.startswith(old + b"/"):
                moves[key] = new + key[len(old) :]
            elif exchange and key.startswith(new + b"/"):
                moves[key] = old + key[len(new) :]
        nodes = {target: self._take_aside(key) for key, target in moves.items()}
        self._shadowed -= moves.keys()
        for target, node in nodes.items():
            if node is not None:
                self._shadowed.add(target)
                self.attach(node, *self._prepare_aside(target))

    def make_piece(self, parent: Directory, name: bytes) -> Directory:
        """Make a directory for a piece of a long key below `.kvfs/keys/`.

        It is no part of the state: nothing of it is logged, and a replay makes
        it again when a key needs it.
        """
        self._next_piece += 1
        return self._directory(parent, name, self._next_piece, parent.ctime)

    def _prepare_aside(self, key: bytes) -> tuple[Directory, bytes]:
        pieces = keys.encode(key)
        parent = self.directory(KEYS_INO)
        for piece in pieces[:-1]:
            node = self.child(parent, piece)
            parent = node if isinstance(node, Directory) else self.make_piece(parent, piece)
        return parent, pieces[-1]

    def _take_aside(self, key: bytes) -> Node | None:
        pieces = keys.encode(key)
        parent = self.nodes.directory(KEYS_INO)
        for piece in pieces[:-1]:
            parent = self.nodes.directory(parent.entries.get(piece)) if parent else None
        if parent is None or pieces[-1] not in parent.entries:
            return None
        node = self.detach(parent, pieces[-1])
        self.prune(parent)
        return node

    def displace(self, key: bytes) -> Node | None:
        """Take what stands at the path `key`, which a directory is to have, from it."""
        parent, name = self.place(key)
        if parent is None or name not in parent.entries:
            return None
        return self.detach(parent, name)

    def stand_aside(self, node: Node, key: bytes) -> None:
        """Put `node`, whose path `key` a directory has now, aside."""
        self._shadowed.add(key)
        self.attach(node, *self._prepare_aside(key))

    def _make_implicit(self, parent: Directory, name: bytes, time: int) -> Directory:
        displaced = self.detach(parent, name) if name in parent.entries else None
        ino = self._next_implicit
        self._next_implicit += 1
        directory = self._directory(parent, name, ino, time)
        if displaced is not None:
            self.stand_aside(displaced, self.key_of(directory))
        return directory

    def _directory(self, parent: Directory, name: bytes, ino: int, time: int) -> Directory:
        directory = Directory(ino, 0o755, self.uid, self.gid)
        directory.implicit = True
        directory.atime = directory.mtime = directory.ctime = directory.touched = time
        self.nodes.add(directory)
        self.attach(directory, parent, name)
        parent.touch(time)
        return directory


_EMPTY = TreeState(FIRST_INO, FIRST_PIECE, 0, frozenset())
