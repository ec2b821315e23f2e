"""What two worlds look like, compared: nodes, contents, attributes, and which times changed.

The times of two worlds are never the same, but for those that were set. So of
each time it is told whether a step left it as it was, brought it to the time of
the step, or to a value; that must be the same in both.
"""

import errno
import os
import select
import stat
import time
from typing import NamedTuple

from calls import content, facts, times

EXCUSED = {
    # The data of a FIFO stays in the kernel, which tells a FUSE daemon nothing of it, and
    # does not keep the times of an inode of FUSE itself (S_NOCMTIME).
    (stat.S_IFIFO, "write", "mtime", "now", "same"),
    (stat.S_IFIFO, "write", "ctime", "now", "same"),
}
"""What may be different: type of node, call, time, and what became of it locally and here."""

_REALTIME_COARSE = 5  # CLOCK_REALTIME_COARSE, the clock of the timestamps of the kernel


class Seen(NamedTuple):
    """A node as it was found: `facts` must be the same in both worlds."""

    ino: int
    facts: dict
    times: dict


def tick():
    """Wait until a timestamp of the kernel would be younger than all before; return that time."""
    before = time.time_ns()
    while (now := time.clock_gettime_ns(_REALTIME_COARSE)) <= before:
        select.select([], [], [], 0.0005)
    return now


def walk(top):
    """Return what is below `top` by path, "." for itself; changes no atime."""
    found = {}
    stack = ["."]
    while stack:
        path = stack.pop()
        full = os.path.join(top, path)
        seen = _look(full)
        found[path] = seen
        if "names" in seen.facts:
            stack += [os.path.normpath(os.path.join(path, name)) for name in seen.facts["names"]]
    return found


def _look(path):
    info = os.lstat(path)
    seen = facts(info)
    if stat.S_ISDIR(info.st_mode):
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
        try:
            with os.scandir(fd) as entries:
                numbers = {entry.name: entry.inode() for entry in entries}
        finally:
            os.close(fd)
        seen["names"] = sorted(numbers)
        seen["d_ino"] = [
            name
            for name, number in numbers.items()
            if os.lstat(os.path.join(path, name)).st_ino != number
        ]
    elif stat.S_ISREG(info.st_mode):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME)
        try:
            seen["content"] = content(fd, info.st_size)
        finally:
            os.close(fd)
    seen["xattrs"] = {
        name: _xattr(path, name) for name in sorted(os.listxattr(path, follow_symlinks=False))
    }
    return Seen(info.st_ino, seen, times(info))


def _xattr(path, name):
    """Return an attribute; the kernel shows no security.capability that is none."""
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        return errno.errorcode[error.errno]


class Comparison:
    """The state of two worlds as of the last step, the first one being the standard."""

    def __init__(self, tops, *, keeps_times):
        """Compare what is below both `tops`; a mount `keeps_times`, or only those that were set."""
        self._tops = tops
        self._keeps_times = keeps_times
        self._numbers = {}  # inode numbers of the second world by those of the first
        self._times = {}  # of both worlds, by the inode number in the first
        self._set = set()  # (inode number, name) of times that were set to a value
        self._targets = set()  # inode numbers of symbolic links that were read
        self._unlogged = set()  # files that have been open since they were made
        self._undone = set()  # directories with times that a remount may undo
        self._pins = {}

    def close(self):
        for fd in self._pins.values():
            os.close(fd)

    def check(self, start, call="", handles=(), *, remounted=False):
        """Compare both worlds after the system call `call`, which began at `start`.

        `handles` are two results of `Calls.inspect` for each agent.
        """
        end = time.time_ns()
        trees = [walk(top) for top in self._tops]
        _same("the paths", *(sorted(tree) for tree in trees))
        nodes = {}
        for path, local in trees[0].items():
            mount = trees[1][path]
            _same(repr(path), local.facts, mount.facts)
            self._identify(
                path, nodes, (local.ino, mount.ino), local.facts, local.times, mount.times
            )
        later = {}
        unlogged, undoing = set(), False
        for local, mount in handles:
            for slot, (ino, seen, before, after) in local.items():
                if ino in self._unlogged or ino not in self._times:
                    unlogged.add(ino)
                    undoing |= ino in self._unlogged and seen["nlink"] == 0
                other = mount[slot]
                _same(f"descriptor {slot}", seen, other[1])
                self._identify(f"descriptor {slot}", nodes, (ino, other[0]), seen, before, other[2])
                later[ino] = after, other[3]
        if self._times:  # not at the first time
            for ino, found in nodes.items():
                if remounted:
                    self._judge_remount(ino, found)
                else:
                    self._judge(ino, found, call, start, end)
        self._note_listed(trees, later)
        self._note_undone(nodes, start, undoing=undoing)
        self._unlogged = unlogged & {seen.ino for seen in trees[0].values()}
        self._read_links(trees[0], later)
        self._remember(trees[0], nodes, later)

    def _identify(self, what, nodes, numbers, seen, *both):
        """Note that two nodes are one; each is one other, the same as before."""
        local, mount = numbers
        known = self._numbers.setdefault(local, mount)
        assert known == mount, f"{what}: inode {mount}, but it is (or was) {known}"
        nodes.setdefault(local, (what, stat.S_IFMT(int(seen["mode"], 8)), *both))

    def _judge(self, ino, found, call, start, end):
        """Compare what a call did to the times of a node."""
        what, kind, local, mount = found
        was = self._times.get(ino, ({}, {}))
        for name in local:
            here = _verdict(was[0].get(name), local[name], start, end)
            there = _verdict(was[1].get(name), mount[name], start, end)
            if int in (type(here), type(there)) and local[name] == mount[name]:
                pass  # set, in one of the worlds to what it was already
            elif _counts(name, here, there) and (kind, call, name, here, there) not in EXCUSED:
                _same(f"{name} of {what}", here, there)
            if "now" in (here, there):
                self._set.discard((ino, name))
            elif here != "same":
                self._set.add((ino, name))

    def _judge_remount(self, ino, found):
        """Compare the times of a node with those before a remount."""
        what, _, _, mount = found
        for name, value in mount.items():
            kept = self._keeps_times and (ino not in self._undone or name == "atime")
            if kept or (ino, name) in self._set:
                _same(f"{name} of {what} over a remount", self._times[ino][1][name], value)

    def _note_listed(self, trees, later):
        """Take the times of directories as they are now: a walk reads them.

        FUSE tells nobody of O_NOATIME where a directory is opened.
        """
        for path, local in trees[0].items():
            if "names" in local.facts:
                paths = [os.path.join(top, path) for top in self._tops]
                later[local.ino] = tuple(times(os.lstat(each)) for each in paths)
                if later[local.ino][1] != trees[1][path].times:
                    self._set.discard((local.ino, "atime"))

    def _note_undone(self, nodes, start, *, undoing):
        """Note which directories have times that a remount may undo.

        docs/promises.md: what a file that was never logged did to the times of
        its directory, that is one that loses its last name before any close.
        """
        for ino, (_, _, local, _) in nodes.items():
            if local["mtime"] >= start:
                (self._undone.add if undoing else self._undone.discard)(ino)
        self._undone &= nodes.keys()

    def _read_links(self, tree, later):
        """Compare the targets of new links; they never change, and to read them changes atimes."""
        for path, seen in tree.items():
            if seen.ino in self._targets or not stat.S_ISLNK(int(seen.facts["mode"], 8)):
                continue
            paths = [os.path.join(top, path) for top in self._tops]
            _same(f"the target of {path!r}", *map(os.readlink, paths))
            later[seen.ino] = tuple(times(os.lstat(each)) for each in paths)
            self._targets.add(seen.ino)

    def _remember(self, tree, nodes, later):
        """Make this state the one to compare the next with.

        An inode of the first world is held until the next state, so that its
        number means the same node there.
        """
        self._times = {ino: later.get(ino, found[2:]) for ino, found in nodes.items()}
        for ino in self._pins.keys() - nodes.keys():
            os.close(self._pins.pop(ino))
        for path, seen in tree.items():
            if seen.ino not in self._pins:
                full = os.path.join(self._tops[0], path)
                self._pins[seen.ino] = os.open(full, os.O_PATH | os.O_NOFOLLOW)
        self._targets &= nodes.keys()
        self._set = {(ino, name) for ino, name in self._set if ino in nodes}
        self._numbers = {ino: self._numbers[ino] for ino in nodes}
        numbers = list(self._numbers.values())
        assert len(set(numbers)) == len(numbers), f"two nodes have one number: {self._numbers}"

    def forget_links(self):
        """Read all links again at the next check."""
        self._targets.clear()


def _verdict(was, value, start, end):
    """Tell what a step made of a time that `was` something: "same", "now", or a value.

    A node that was not seen before may be an old one, which a process stood in.
    """
    if start <= value <= end:
        return "now"
    return "same" if was is None or value == was else value


def _counts(name, *verdicts):
    """Tell whether two verdicts on a time must be the same.

    That a read sets the atime, or not, depends on what was read before, and on
    what the page cache of a mount has: test_access_times.py looks at that.
    """
    return name != "atime" or any(isinstance(each, int) for each in verdicts)


def _same(what, local, mount):
    """Fail, and tell the difference, unless both worlds say the same."""
    if local == mount:
        return
    if isinstance(local, dict) and isinstance(mount, dict):
        keys = [key for key in {**local, **mount} if local.get(key) != mount.get(key)]
        local, mount = ({key: each.get(key) for key in keys} for each in (local, mount))
    raise AssertionError(f"{what}: {_short(local)} locally, {_short(mount)} on the mount")


def _short(value):
    shown = repr(value)
    return shown if len(shown) < 2000 else f"{shown[:1000]} ... {shown[-900:]}"
