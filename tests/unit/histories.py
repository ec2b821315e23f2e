"""Random logs whose whole history is known, and damage to them."""

import os
import random

import kvfs
from kvfs.disk import Disk
from kvfs.errors import CorruptionError
from kvfs.log import Log
from kvfs.records import (
    Attrs,
    Delete,
    Link,
    Location,
    Mkdir,
    Put,
    Rename,
    Setattr,
    Setxattr,
    Truncate,
    Write,
)
from kvfs.recovery import LogPaths
from kvfs.store.opening import read_config
from kvfs.table import File, Table

KEYS = [b"a", b"b", b"c", b"d/a", b"d/b", b"e/a", b"e/f/b", b"..", b"d"]
DIRECTORIES = [b"d", b"e", b"e/f", b"g"]
PRIVATE = 0o700
TIME = 10**18


def logged(path, records, *, size=1 << 20):
    """Make a binary store whose log is `records`, which must fit; return their places."""
    kvfs.init(path, max_segment_size=size)
    log, table = opened(path)
    places = []
    for record in records:
        table.apply(record, Location(1, 0, 1))
        places += log.append([record])
    log.close()
    return places


def opened(path):
    """Return the log and the table of the new store at `path`."""
    config = read_config(str(path), Disk())
    paths = LogPaths.of(str(path))
    log = Log(Disk(), paths, config, writable=True)
    assert list(log.replay()) == []
    return log, Table(os.getuid(), os.getgid(), config.created)


class History:
    """The store at `path`: its records and their places.

    `contents` are all that a file ever had, `had` those of each key, `modes` those that
    each directory ever had.
    """

    def __init__(self, path, seed, form="binary", count=80, size=1024):
        self.path = path
        self.records = []
        self.contents = {b""}
        self.had = {}
        self.keys = KEYS if seed % 2 else KEYS[:3]  # few, so that links matter
        self.modes = set()
        self._random = random.Random(seed)
        self._of = {}
        kvfs.init(path, format=form, max_segment_size=size)
        log, self.table = opened(path)
        for number in range(count):
            batch = self._batch(TIME + number, atomic=form == "binary")
            if self._apply(batch):
                places = log.append(batch, atomic=len(batch) > 1)
                self.records += zip(places, batch, strict=True)
        log.close()

    @property
    def final(self):
        """The value of each key at the end."""
        return {key: self._of[self.table.number_of(key)] for key in self.table.valued()}

    def may_have(self, key):
        """Return the values that `key` may have: its own, and those of what came to it."""
        sources = [
            old for old in self.had if is_tainted(key, tainted([Put(old, b"")], self.records))
        ]
        return set().union(*(self.had[old] for old in sources))

    def damaged(self, now):
        """Return the records that are not in their places in the segments `now`, byte by byte."""
        before = self.files
        lost = []
        for place, record in self.records:
            name = f"{place.segment:08}.seg"
            span = slice(place.offset, place.offset + place.length)
            if name not in now or now[name][span] != before[name][span]:
                lost.append(record)
        return lost

    def keep(self):
        """Remember the segments as they are now, sound."""
        self.files = read_all(self.path / "segments")
        return self

    def _apply(self, batch):
        try:
            for record in batch:
                self.table.apply(record, Location(1, 0, 1))
                node = self.table.find(record.key)
                if isinstance(node, File):
                    self._of[node.ino] = _content(self._of.get(node.ino, b""), record)
        except CorruptionError:
            return False  # only the first of a batch can be refused
        self.contents.update(self._of.values())
        for key in self.table.valued():
            self.had.setdefault(key, set()).add(self._of[self.table.number_of(key)])
        for path in DIRECTORIES:
            directory = self.table.find_directory(path)
            if directory:
                self.modes.add((path, directory.mode & 0o7777))
        return True

    def _batch(self, time, *, atomic):
        choose = self._random
        key, other = choose.choice(self.keys), choose.choice(self.keys)
        path, target = choose.choice(DIRECTORIES), choose.choice(DIRECTORIES)
        kind = choose.randrange(20)
        if kind < 6:
            return [Put(key, self._bytes(0, 60), time=time)]
        if kind < 8 and atomic:
            parts = [Put(key, self._bytes(20, 40), time=time)]
            end = len(parts[0].data)
            for _ in range(choose.randrange(1, 4)):
                parts.append(Write(key, end, self._bytes(200, 400), time))
                end += len(parts[-1].data)
            return parts
        if kind < 11:
            return [Write(key, choose.randrange(40), self._bytes(1, 30), time)]
        return [
            [
                Truncate(key, choose.randrange(40), time),
                Delete(key, time=time),
                Rename(key, other, time=time),
                Link(key, other, time=time),
                Mkdir(path, Attrs(mode=PRIVATE), time),
                Delete(path, directory=True, time=time),
                Rename(path, target, directory=True, time=time),
                Setattr(key, Attrs(mode=0o600), time=time),
                Setxattr(key, b"user.x", b"x", time=time),
            ][choose.randrange(9)]
        ]

    def _bytes(self, low, high):
        return self._random.randbytes(self._random.randint(low, high)).hex().encode()


def _content(old, record):
    if isinstance(record, Put):
        return record.data
    if isinstance(record, Write):
        start = old[: record.offset].ljust(record.offset, b"\0")
        return start + record.data + old[record.offset + len(record.data) :]
    if isinstance(record, Truncate):
        return old[: record.size].ljust(record.size, b"\0")
    return old


def read_all(directory):
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


def damage(directory, plan):
    """Do what each (kind, number of the segment, bit) of `plan` says to the segments."""
    for kind, number, place in plan:
        files = sorted(directory.iterdir())
        if not files:
            return
        file = files[number % len(files)]
        data = bytearray(file.read_bytes())
        if kind == "remove":
            file.unlink()
        elif kind == "swap":
            other = files[place % len(files)]
            file.write_bytes(other.read_bytes())
            other.write_bytes(data)
        elif data:
            at = place // 8 % len(data)
            sector = slice(at - at % 512, at - at % 512 + 512)
            if kind == "flip":
                data[at] ^= 1 << place % 8
            elif kind == "zero":
                data[sector] = bytes(len(data[sector]))
            else:
                del data[at:]
            file.write_bytes(data)


def tainted(lost, records):
    """Return the keys that what is lost can have to do with, directly or by a renaming."""
    keys = {key for record in lost for key in (record.key, getattr(record, "new", None))}
    keys.discard(None)
    while True:
        more = set()
        for _, record in records:
            if isinstance(record, Rename | Link):
                more |= _moved(keys, record.key, record.new)
                if isinstance(record, Link):
                    more |= _moved(keys, record.new, record.key)
        if more <= keys:
            return keys
        keys |= more


def _moved(keys, old, new):
    moved = {new + key[len(old) :] for key in keys if key == old or key.startswith(old + b"/")}
    above = any(old.startswith(key + b"/") for key in keys)
    return {key for key in moved if key.count(b"/") < 4} | ({new} if above else set())


def is_tainted(key, keys):
    return any(key == path or key.startswith(path + b"/") for path in keys)
