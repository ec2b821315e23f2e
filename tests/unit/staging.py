"""Transactions that are begun, ended and looked at without a mount."""

import errno
import stat

from kvfs.disk import Disk
from kvfs.errors import PosixError
from kvfs.store import staged
from kvfs.store.files import Owner
from kvfs.store.ground import Ground
from kvfs.table import Directory, File, Symlink
from kvfs.table.node import FIRST_PIECE

ME = Owner(0, 0, 0o644)
ROOT = 1


def begin(store, ground=None):
    transaction = store.transaction()
    transaction.begin(staged.StagedStore(ground or Ground(Disk(), store.path)))
    return transaction, transaction.staged


def finish(transaction):
    transaction.end()
    transaction.staged.close()
    transaction.staged.staged.ground.close()


def write(files, path, value):
    """Put `value` as a program does that truncates the file at `path`, a list of names."""
    parent = directory(files, path[:-1])
    node = files.lookup(parent, path[-1])
    if node is None:
        node = files.create(parent, path[-1], ME)
    else:
        node = files.file(node.ino)
        files.content.truncate(node, 0)
    files.content.write(node, 0, value)
    files.content.commit(node)
    return node


def directory(files, path):
    ino = ROOT
    for name in path:
        node = files.lookup(ino, name)
        if node is None:
            raise PosixError(errno.ENOENT)
        ino = files.directory(node.ino).ino
    return ino


def tree(store):
    """Return all that can be seen: path to (kind, mode, content, xattrs); not numbers and times."""
    files, shown = store.files, {}
    todo = [((), files.directory(ROOT))]
    while todo:
        path, above = todo.pop()
        for name, ino in above.entries.items():
            node = files.node(ino)
            below = (*path, name)
            content = node.target if isinstance(node, Symlink) else None
            if isinstance(node, File):
                # What others do to it by another name shows here as well.
                content = files.content.value(node) if node.nlink == 1 else node.nlink
            elif isinstance(node, Directory):
                todo.append((below, node))
            shown[below] = (
                stat.S_IFMT(node.mode),
                node.mode,
                content,
                dict(node.xattrs or {}),
            )
    return shown | {("key", key): store.get(key) for key in store}


def described(store):
    """Return the attributes of every node but what is only in memory: the directories for long keys.

    Not the times of directories, which those also have from names that were never logged.
    """
    found = {ino: store.files.stat_of(ino) for ino in store.table.nodes if ino < FIRST_PIECE}
    return {
        ino: stat_._replace(atime=0, mtime=0, ctime=0) if stat.S_ISDIR(stat_.mode) else stat_
        for ino, stat_ in found.items()
    }
