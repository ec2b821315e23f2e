"""What is measured: the catalogue of works, their units and how many of each there are.

A work is one number per peer and round. Its group is the table that it stands in and, for works on
the mount, the scenario that measures it. Everything else refers to works by their keys.
"""

from __future__ import annotations

from typing import NamedTuple

MIB = 2**20


class Mistake(Exception):
    """What was asked for cannot be; the text is one line."""


class Work(NamedTuple):
    """One thing to measure; its value is a time (or a size) unless the unit says MB/s."""

    key: str
    title: str
    unit: str
    group: str

    @property
    def is_rate(self) -> bool:
        return self.unit == "MB/s"


class Counts(NamedTuple):
    """How much of each work is done."""

    files: int = 2_000  # of 100 B, and again of 4 KiB
    entries: int = 10_000  # of the directory that is listed
    listings: int = 5  # of it, once it is cached
    shell: int = 1_000  # files of a loop of bash
    spawns: int = 300  # files that cat is run for
    tree: int = 2_000  # files of the source tree
    stream: int = 1024 * MIB
    random_file: int = 256 * MIB
    random_reads: int = 4_000
    writers: int = 8
    synced_alone: int = 200  # files of the one writer
    synced_each: int = 50  # files of each of the several
    pairs: int = 50_000  # keys of the libraries
    keys: int = 1_000_000  # of the large store
    settle: float = 3.0  # seconds before a mount counts as idle
    idle: float = 20.0  # seconds


QUICK = Counts(
    files=200,
    entries=500,
    listings=2,
    shell=50,
    spawns=20,
    tree=100,
    stream=32 * MIB,
    random_file=8 * MIB,
    random_reads=200,
    synced_alone=20,
    synced_each=5,
    pairs=2_000,
    keys=20_000,
    settle=1.0,
    idle=2.0,
)

GROUPS = {
    "files": "Small files",
    "listing": "Listing a directory",
    "shell": "Shell loops",
    "tree": "A source tree",
    "streams": "Streams",
    "random": "Random reads",
    "fsync": "Durable files",
    "library": "Libraries",
    "alone": "kvfs alone",
}
ON_MOUNTS = ("files", "listing", "shell", "tree", "streams", "random", "fsync")

_CATALOGUE = (
    Work("create-100", "create, write, close: 100 B", "us", "files"),
    Work("create-4k", "create, write, close: 4 KiB", "us", "files"),
    Work("read-first-100", "open, read, close, first: 100 B", "us", "files"),
    Work("read-first-4k", "open, read, close, first: 4 KiB", "us", "files"),
    Work("read-again-100", "open, read, close, again: 100 B", "us", "files"),
    Work("read-again-4k", "open, read, close, again: 4 KiB", "us", "files"),
    Work("overwrite-100", "overwrite: 100 B", "us", "files"),
    Work("overwrite-4k", "overwrite: 4 KiB", "us", "files"),
    Work("append-100", "append: 100 B", "us", "files"),
    Work("append-4k", "append: 4 KiB", "us", "files"),
    Work("stat-first", "stat, first", "us", "files"),
    Work("stat-again", "stat, again", "us", "files"),
    Work("rename", "rename", "us", "files"),
    Work("unlink", "unlink", "us", "files"),
    Work("readdir-first", "list 10,000 entries, first", "ms", "listing"),
    Work("readdir-again", "list 10,000 entries, again", "ms", "listing"),
    Work("shell-write", 'echo >"$f"', "us", "shell"),
    Work("shell-substitute", '$(<"$f")', "us", "shell"),
    Work("shell-read", 'read <"$f"', "us", "shell"),
    Work("shell-cat", 'cat "$f", a process each', "us", "shell"),
    Work("untar", "tar x of 2,000 files", "ms", "tree"),
    Work("git-add", "git init, add, status", "ms", "tree"),
    Work("git-status", "git status", "ms", "tree"),
    Work("remove-tree", "rm -r of all that", "ms", "tree"),
    Work("stream-write", "write 1 GiB, close included", "MB/s", "streams"),
    Work("stream-read-cold", "read 1 GiB, cold", "MB/s", "streams"),
    Work("stream-read-cached", "read 1 GiB, cached", "MB/s", "streams"),
    Work("random-read", "4 KiB at random in 256 MiB, cold", "us", "random"),
    Work("fsync-1", "create, write, fsync, close: 1 writer", "us", "fsync"),
    Work("fsync-8", "create, write, fsync, close: 8 writers", "us", "fsync"),
    Work("put", "put: 16 B keys, 100 B values", "us", "library"),
    Work("get", "get, in random order", "us", "library"),
    Work("replay", "replay 1,000,000 puts", "s", "alone"),
    Work("replay-record", "replay, a record", "us", "alone"),
    Work("memory-library", "memory a key, all replayed", "B", "alone"),
    Work("look-up", "look up one of 1,000,000 in a checkpoint", "us", "alone"),
    Work("mount", "mount 1,000,000 keys", "s", "alone"),
    Work("memory-mount", "memory a key, daemon", "B", "alone"),
    Work("idle", "processor time of an idle mount", "%", "alone"),
)
WORKS = {work.key: work for work in _CATALOGUE}


def of_group(group: str) -> list[Work]:
    """Return the works of a group, in the order of the catalogue."""
    return [work for work in _CATALOGUE if work.group == group]


def title(work: str, counts: dict[str, int]) -> str:
    """Return the title of a work, with the counts that it was done with."""
    text = WORKS[work].title
    for usual, found in (
        ("10,000", f"{counts['entries']:,}"),
        ("2,000", f"{counts['tree']:,}"),
        ("1 GiB", _size(counts["stream"])),
        ("256 MiB", _size(counts["random_file"])),
        ("1,000,000", f"{counts['keys']:,}"),
    ):
        text = text.replace(usual, found)
    return text


def _size(size: int) -> str:
    return f"{size // (1024 * MIB)} GiB" if size % (1024 * MIB) == 0 else f"{size // MIB} MiB"


def chosen(words: str | None) -> frozenset[str]:
    """Return the keys that a list of keys and groups names; all of them for None.

    Raises `Mistake` for a word that is neither.
    """
    if words is None:
        return frozenset(WORKS)
    keys: set[str] = set()
    for word in filter(None, (word.strip() for word in words.split(","))):
        if word in GROUPS:
            keys.update(work.key for work in of_group(word))
        elif word in WORKS:
            keys.add(word)
        else:
            message = f"no work {word!r}; there are the groups {', '.join(GROUPS)}"
            raise Mistake(f"{message} and the works {', '.join(WORKS)}")
    if not keys:
        raise Mistake("no work is named")
    return frozenset(keys)
