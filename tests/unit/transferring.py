"""What the tests of export and import share: moving, and what a store has."""

import stat
from contextlib import nullcontext

import kvfs
from kvfs.transfer import moving
from kvfs.transfer.entries import Source
from kvfs.transfer.formats import of_input
from kvfs.transfer.state import StoreView, entries


def progress(_what, _total):
    return nullcontext(lambda _step: None)


def export(store, file, form):
    """Export the store at the path `store`."""
    with kvfs.open(store, read_only=True) as opened:
        return moving.export(opened, str(file), form, progress)


def bring(store, file, form=None, prefix=b"", **options):
    """Import `file` into the store at the path `store`."""
    source = Source(str(file), str(file), **options)
    read = moving.Import(source, form or of_input(str(file)), prefix)
    with kvfs.open(store, create=False) as opened:
        return read.run(opened, None, lambda _step: None)


def values(store):
    with kvfs.open(store, read_only=True) as opened:
        return dict(opened.items())


def content(entry):
    data = bytearray(entry.size)
    for offset, piece in entry.pieces():
        data[offset : offset + len(piece)] = piece
    return bytes(data)


def state(store, *, times=True):
    """Return every name in a store and all that a mount shows of it."""
    with kvfs.open(store, read_only=True) as opened:
        found = {}
        for entry in entries(StoreView(opened)):
            found[entry.name] = (
                oct(entry.mode),
                (entry.uid, entry.gid),
                entry.mtime if times else None,
                entry.xattrs,
                content(entry) if stat.S_ISREG(entry.mode) else None,
                entry.rdev,
                entry.target,
                entry.link,
            )
        return found
