"""The formats there are, and which one a file is in."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.transfer.entries import Source


class Format(NamedTuple):
    """A format: the module that reads it, what that reads, and how its files are called.

    A module has `read`, and `verify` where to read through takes more.
    """

    module: str
    has_entries: bool
    suffixes: tuple[str, ...] = ()

    def reader(self, source: Source, *, verify: bool = False) -> Callable[[], Iterator[Any]]:
        """Return what yields the pairs or entries of `source`."""
        module = import_module(f"kvfs.transfer.{self.module}")
        read = getattr(module, "verify", module.read) if verify else module.read
        return lambda: read(source)


TARS = {
    ".tar": "",
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
}
"""The endings of names of archives, and how these are compressed."""
FORMATS = {
    "jsonl": Format("jsonl", False, (".jsonl", ".ndjson")),
    "tar": Format("tar_read", True, tuple(TARS)),
    "tree": Format("tree", True, ("/",)),
    "text": Format("text", True),
    "sqlite": Format("sqlite", False, (".sqlite", ".sqlite3")),
    "dbm": Format("dbm", False),
    "redis": Format("redis", False, (".rdb",)),
    "etcd": Format("etcd", False),
}
EXPORTS = ("jsonl", "tar", "tree", "text")
"""Those that are written too."""
STREAMS = ("jsonl", "tar", "text")
"""Those that can be written to standard output."""
NO_STREAMS = ("tree", "dbm")
"""Those that cannot be read from standard input."""
_HEAD = 1024
_MAGIC = {
    b"SQLite format 3\0": "sqlite",
    b"REDIS": "redis",
    b"\x1f\x8b": "tar",
    b"BZh": "tar",
    b"\xfd7zXZ\0": "tar",
}
_USTAR = slice(257, 262)
_RECORD = re.compile(rb"[PDWTMSNLRAXUV]\|", re.IGNORECASE)
_ETCD = {"kvs", "header", "create_revision", "mod_revision"}


def of_output(file: str) -> str:
    """Return the format that an export to `file` is in."""
    return "tree" if os.path.isdir(file) else _by_name(file) or "jsonl"


def of_input(file: str) -> str:
    """Return the format that `file` seems to be in, by its name or else by how it begins."""
    if os.path.isdir(file):
        return "tree"
    return _by_name(file) or _by_content(file) or "jsonl"


def _by_name(file: str) -> str | None:
    return next((n for n, form in FORMATS.items() if file.lower().endswith(form.suffixes)), None)


def _by_content(file: str) -> str | None:
    from kvfs.transfer import dbm

    with suppress(OSError):
        if dbm.find(file):
            return "dbm"
    try:
        with open(file, "rb") as opened:
            head = opened.read(_HEAD)
            known = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
            if known or head[_USTAR] == b"ustar":
                return known or "tar"
            if _RECORD.match(head):
                return "text"
            return "etcd" if _is_etcd(head) else None
    except IsADirectoryError:
        return "tree"


def _is_etcd(head: bytes) -> bool:
    """Tell whether the JSON that begins with `head` seems to be an answer of etcd."""
    text = head.lstrip()
    if not text.startswith(b"{"):
        return False
    names = set(re.findall(rb'"(\w+)"\s*:', text))
    return bool({name.encode() for name in _ETCD} & names)
