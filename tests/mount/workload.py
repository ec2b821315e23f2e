"""Writers on a mount that keep journals outside of it, and what their journals promise.

Each writer is a process with a directory of its own. It notes every operation
before it begins and after it returned, so its journal tells what must be there
after the daemon has ended, and which states the operation in the middle may
have left.
"""

import errno
import json
import multiprocessing
import os
import random
import stat
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

from operations import (
    DIRECTORY,
    KINDS,
    Chmod,
    File,
    Fsync,
    Link,
    Make,
    Mkdir,
    Partly,
    Patch,
    Rename,
    Rmdir,
    Scratch,
    Truncate,
    Unlink,
    below,
)

# What a call gets whose daemon is gone; ENOENT from the mountpoint without its mount.
LOST = ("ENOTCONN", "ECONNABORTED", "ENOENT")
_WEIGHTED = [
    *(["make"] * 6),
    *(["overwrite"] * 4),
    *(["replace"] * 4),
    *(["append"] * 3),
    *(["patch"] * 3),
    *(["rename"] * 3),
    *(["unlink"] * 2),
    "synced", "scratch", "link", "mkdir", "mkdir", "rmdir", "move", "fsync", "truncate", "chmod",
]  # fmt: skip


class Sizes(NamedTuple):
    """How large files are: ranges in bytes, with their weights."""

    ranges: tuple[tuple[int, int], ...]
    weights: tuple[int, ...]

    def pick(self, rng):
        return rng.randint(*rng.choices(self.ranges, self.weights)[0])


ALL_SIZES = Sizes(
    ((10, 400), (1000, 20_000), (60_000, 200_000), (300_000, 1024 * 1024), (1_100_000, 3_145_728)),
    (50, 25, 15, 6, 4),
)
SMALL_SIZES = Sizes(((10, 400), (1000, 16_000)), (70, 30))
"""Sizes that one line of a text store with small segments holds, whatever the bytes."""


class Chooser:
    """Picks operations that are possible in a tree, of few names, so that they meet."""

    def __init__(self, rng, sizes):
        self._rng, self._sizes = rng, sizes

    def next(self, tree):
        """Return the next operations, one or two."""
        while True:
            found = getattr(self, f"_{self._rng.choice(_WEIGHTED)}")(tree)
            if found:
                return found

    def _seed(self):
        return self._rng.randrange(2**40)

    def _place(self, tree):
        directories = ["", *(f"{path}/" for path, node in tree.items() if node == DIRECTORY)]
        return f"{self._rng.choice(directories)}f{self._rng.randrange(5)}"

    def _file(self, tree):
        files = [path for path, node in tree.items() if node != DIRECTORY]
        return self._rng.choice(files) if files else None

    def _make(self, tree):
        return [Make(self._place(tree), self._sizes.pick(self._rng), self._seed(), None)]

    def _overwrite(self, tree):
        path = self._file(tree)
        return path and [Make(path, self._sizes.pick(self._rng), self._seed(), None)]

    def _synced(self, tree):
        size = self._sizes.pick(self._rng)
        synced = self._rng.randint(0, min(size, 1024 * 1024))
        return [Make(self._place(tree), size, self._seed(), synced)]

    def _replace(self, tree):
        temporary, path = "temporary", self._place(tree)
        return [
            Make(temporary, self._sizes.pick(self._rng), self._seed(), None),
            Rename(temporary, path),
        ]

    def _append(self, tree):
        path = self._file(tree)
        return path and [Patch(path, None, self._sizes.pick(self._rng), self._seed())]

    def _patch(self, tree):
        path = self._file(tree)
        if path is None:
            return None
        offset = self._rng.randint(0, len(tree[path].content))
        return [Patch(path, offset, self._sizes.pick(self._rng), self._seed())]

    def _rename(self, tree):
        path = self._file(tree)
        return path and [Rename(path, self._place(tree))]

    def _unlink(self, tree):
        path = self._file(tree)
        return path and [Unlink(path)]

    def _scratch(self, tree):
        return [Scratch("scratch", self._sizes.pick(self._rng), self._seed())]

    def _link(self, tree):
        path, new = self._file(tree), self._place(tree)
        return path and new not in tree and [Link(path, new)]

    def _mkdir(self, tree):
        path = f"d{self._rng.randrange(4)}"
        return path not in tree and [Mkdir(path)]

    def _directory(self, tree):
        found = [path for path, node in tree.items() if node == DIRECTORY]
        return self._rng.choice(found) if found else None

    def _rmdir(self, tree):
        path = self._directory(tree)
        return path and not below(tree, path) and [Rmdir(path)]

    def _move(self, tree):
        path, new = self._directory(tree), f"d{self._rng.randrange(4)}"
        return path and new != path and not below(tree, new) and [Rename(path, new)]

    def _fsync(self, tree):
        return [Fsync(self._file(tree) or "."), Fsync(".")]

    def _truncate(self, tree):
        path = self._file(tree)
        if path is None:
            return None
        return [Truncate(path, self._rng.randint(0, len(tree[path].content) + 5000))]

    def _chmod(self, tree):
        path = self._file(tree)
        return path and [Chmod(path, self._rng.choice([0o600, 0o644, 0o755]))]


class Journal:
    """Lines of JSON, each in the file before the next step."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(self, word, what=None):
        os.write(self._fd, json.dumps({word: what}).encode() + b"\n")


class Writer:
    """A process with a directory of its own on a mount, and what must be in that."""

    def __init__(self, mount, outside, name):
        self.tree = {}
        self.journal = Path(outside) / f"{name}.journal"
        self._stop = Path(outside) / f"{name}.stop"
        self._directory = Path(mount) / name
        self._directory.mkdir()
        self._process = None

    def start(self, seed, sizes):
        """Begin with an empty journal; the process goes on until it is stopped, or loses its mount."""
        self.journal.unlink(missing_ok=True)
        self._stop.unlink(missing_ok=True)
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=self._work, args=(seed, sizes))
        self._process.start()

    def _work(self, seed, sizes):
        journal = Journal(self.journal)
        try:
            os.umask(0o022)
            os.chdir(self._directory)
            chooser = Chooser(random.Random(seed), sizes)
            tree = deepcopy(self.tree)
            while not self._stop.exists():
                for operation in chooser.next(tree):
                    journal.note("begin", [type(operation).__name__, *operation])
                    result = operation.do(lambda: journal.note("mark"))
                    journal.note("end", result)
                    operation.apply(tree, result)
        except OSError as error:
            journal.note("failed", errno.errorcode[error.errno])
        except AssertionError as error:
            journal.note("failed", str(error))

    def stop(self):
        """Ask the process to end after what it does."""
        self._stop.touch()

    @property
    def running(self):
        return self._process.is_alive()

    def join(self, seconds):
        """Wait for the end of the process."""
        self._process.join(seconds)
        assert self._process.exitcode == 0, f"a writer ended with {self._process.exitcode}"

    def kill(self):
        if self._process:
            self._process.kill()
            self._process.join()

    def acknowledged(self):
        """Return how many operations have returned."""
        return self.journal.read_bytes().count(b'{"end"') if self.journal.exists() else 0

    def verify(self, *, clean):
        """Hold what is there against the journal, and go on from it; return the acknowledged.

        `clean` says that the daemon was not killed.
        """
        operation, marked, failure = None, False, None
        count = 0
        for line in self.journal.read_text().splitlines():
            ((word, what),) = json.loads(line).items()
            if word == "begin":
                operation, marked = KINDS[what[0]](*what[1:]), False
            elif word == "mark":
                marked = True
            elif word == "end":
                operation.apply(self.tree, what)
                operation = None
                count += 1
            else:
                failure = what
        assert failure is None or failure in LOST, (failure, operation)
        states = [self.tree]
        if operation:
            more = {"marked": True} if marked else {}
            states = operation.during(self.tree, clean=clean, **more)
        found = look(self._directory)
        differences = [differ(state, found) for state in states]
        assert [] in differences, (str(self._directory), operation, marked, differences)
        self.tree = _adopt(states[differences.index([])], found)
        return count


class Found(NamedTuple):
    """What is seen of a node."""

    content: bytes | None
    mode: int
    links: int
    ino: int


def look(top):
    """Return what is below `top`, by path."""
    found = {}
    for directory, names, files in os.walk(top, onerror=_raise):
        for name in [*names, *files]:
            path = Path(directory, name)
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else None
            found[str(path.relative_to(top))] = Found(
                content, stat.S_IMODE(info.st_mode), info.st_nlink, info.st_ino
            )
    return found


def _raise(error):
    raise error


def differ(tree, found):
    """Return what of `found` is not as in `tree`."""
    wrong = [f"{path} is there" for path in found.keys() - tree.keys()]
    wrong += [f"{path} is not there" for path in tree.keys() - found.keys()]
    numbers = {}
    for path, node in tree.items():
        seen = found.get(path)
        if seen is None:
            continue
        if node == DIRECTORY:
            if seen.content is not None or seen.links != 2:
                wrong.append(f"{path} is no directory with 2 links: {seen.links}")
            continue
        links = sum(other is node for other in tree.values())
        if (seen.links, seen.mode) != (links, node.mode):
            wrong.append(f"{path} has links {seen.links} not {links}, mode {seen.mode:o}")
        if seen.ino != numbers.setdefault(id(node), node.ino or seen.ino):
            wrong.append(f"{path} is inode {seen.ino}, not {numbers[id(node)]}")
        if not _fits(node.content, seen.content):
            wrong.append(f"{path} has other content, of {len(seen.content or b'')} bytes")
    if len({seen.ino for seen in found.values()}) < len(
        {id(n) for n in tree.values() if n != DIRECTORY}
    ):
        wrong.append("two files have one inode number")
    return wrong


def _fits(expected, content):
    if content is None:
        return False
    return expected.fits(content) if isinstance(expected, Partly) else expected == content


def _adopt(tree, found):
    """Return `tree` with the contents and numbers that were found."""
    adopted = deepcopy(tree)
    for path, node in adopted.items():
        if isinstance(node, File):
            node.content, node.ino = found[path].content, found[path].ino
    return adopted


def progressed(working, least):
    """Tell whether the writers have `least` operations acknowledged, or have all ended."""
    acknowledged = sum(writer.acknowledged() for writer in working)
    return acknowledged >= least or not any(writer.running for writer in working)


@contextmanager
def writers(mount, outside, count):
    """Give `count` writers; none is left."""
    made = [Writer(mount, outside, f"w{number}") for number in range(count)]
    try:
        yield made
    finally:
        for writer in made:
            writer.kill()
