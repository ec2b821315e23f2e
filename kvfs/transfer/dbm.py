"""The dbm files of Python: whatever `dbm.whichdb` recognises."""

from __future__ import annotations

import dbm
import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.transfer.entries import Source

_SUFFIXES = (".dir", ".dat", ".bak", ".pag", ".db")


def find(path: str) -> tuple[str, str] | None:
    """Return the name of the database at `path`, and the module for it; None if there is none.

    The name of one of its files will do.
    """
    stem, suffix = os.path.splitext(path)
    for name in (path, stem) if suffix in _SUFFIXES else (path,):
        kind = dbm.whichdb(name)
        if kind:
            return name, kind
    return None


def read(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the database. Raises `KvfsError`."""
    found = find(source.path)
    if found is None:
        raise source.bad("", "this is no dbm database that Python knows")
    name, kind = found
    try:
        module = import_module(kind)
    except ImportError:
        what = f"this is a {kind} database, and the Python of kvfs has no module {kind}"
        raise source.bad("", what) from None
    try:
        with module.open(name, "r") as database:
            for key in database.keys():  # noqa: SIM118 - not all kinds can be iterated over
                yield key, database[key]
    except (module.error, ValueError, SyntaxError, TypeError, KeyError) as error:
        raise source.bad("", f"the {kind} database cannot be read: {error}") from None
