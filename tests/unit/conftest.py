"""What the unit tests share: stores on real files, faulty disks, strategies of records."""

import errno
import os
import stat
from collections import Counter

import pytest
from hypothesis import strategies as st

from kvfs import config, records
from kvfs.disk import Disk
from kvfs.log import Log
from kvfs.recovery import LogPaths


class FaultyDisk(Disk):
    """A disk whose calls fail as told; `calls` counts them."""

    def __init__(self):
        self.calls = Counter()
        self.plans = {}

    def fail(self, name, code, *, after=0, times=10**9, partial=0):
        """Let calls of `name` fail: `after` good ones, `times` of them.

        A failing write leaves `partial` of its bytes.
        """
        self.plans[name] = [after, times, code, partial]

    def heal(self):
        self.plans.clear()

    def _failing(self, name):
        self.calls[name] += 1
        plan = self.plans.get(name)
        if plan is None:
            return None
        if plan[0]:
            plan[0] -= 1
            return None
        if not plan[1]:
            return None
        plan[1] -= 1
        return plan

    def _check(self, name):
        if plan := self._failing(name):
            raise OSError(plan[2], os.strerror(plan[2]))

    def write_parts(self, fd, parts, offset):
        self.write(fd, b"".join(parts), offset)

    def start_sync(self, fd, offset, length):
        pass

    def write(self, fd, data, offset):
        if plan := self._failing("write"):
            if plan[3]:
                super().write(fd, bytes(data[: plan[3]]), offset)
            raise OSError(plan[2], os.strerror(plan[2]))
        super().write(fd, data, offset)

    def read(self, fd, size, offset):
        self._check("read")
        return super().read(fd, size, offset)

    def sync(self, fd):
        self._check("sync")
        super().sync(fd)

    def truncate(self, fd, size):
        self._check("truncate")
        super().truncate(fd, size)

    def sync_directory(self, path):
        self._check("sync_directory")
        super().sync_directory(path)

    def unlink(self, path):
        self._check("unlink")
        super().unlink(path)


class Logs:
    """Logs without a store around them, in one directory."""

    def __init__(self, path):
        self.path = str(path)
        self.paths = LogPaths(*(os.path.join(self.path, n) for n in ("seg", "quarantine", "clean")))
        os.makedirs(self.paths.segments)
        os.makedirs(self.paths.quarantine)
        self.config = None

    def make(self, form="binary", size=512):
        self.config = config.make(form, size, 0)
        return self.open()[0]

    def open(self, disk=None, *, writable=True):
        """Return the log, replayed, and the records that it held."""
        log = Log(disk or Disk(), self.paths, self.config, writable=writable)
        return log, [record for record, _ in log.replay()]

    def crash(self, log):
        """Drop `log` as a dying process would: nothing is synced or marked."""
        log._failure = "the process died"
        log.close()

    def files(self):
        return read_directory(self.paths.segments)

    def kept(self):
        return read_directory(self.paths.quarantine)

    def segment(self, number):
        return os.path.join(self.paths.segments, f"{number:08}.seg")

    def write(self, number, data):
        with open(self.segment(number), "wb") as file:
            file.write(data)


def read_directory(path):
    found = {}
    for name in sorted(os.listdir(path)):
        with open(os.path.join(path, name), "rb") as file:
            found[name] = file.read()
    return found


@pytest.fixture
def faulty():
    return FaultyDisk()


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path)


@pytest.fixture(scope="session")
def segments():
    """Return a function: the contents of the segments of the store at a path."""
    return lambda path: list(read_directory(os.path.join(path, "segments")).values())


def _attrs():
    def some(low, high):
        return st.none() | st.integers(low, high)

    times = some(-(2**63), 2**63 - 1)
    return st.builds(
        records.Attrs,
        mode=some(0, 0o7777),
        uid=some(0, 2**32 - 1),
        gid=some(0, 2**32 - 1),
        atime=times,
        mtime=times,
        ctime=times,
        born=times,
        ino=some(0, 2**63 - 1),
    )


@pytest.fixture(scope="session")
def any_record():
    """Return a strategy: given the strategy of times, records of all twelve types."""

    def of(times):
        spiced = st.lists(
            st.sampled_from([b"|", b"\n", b"\0", b"%", b"%7C", b"a", b"/"]), max_size=9
        )
        data = st.binary(max_size=40) | spiced.map(b"".join)
        number, flag, attrs = (
            st.integers(0, 2**64 - 1),
            st.booleans(),
            st.just(records.NO_ATTRS) | _attrs(),
        )
        kinds = st.sampled_from([stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
        modes = st.builds(int.__or__, kinds, st.integers(0, 0o7777))
        return st.one_of(
            st.builds(records.Put, data, data, attrs, times),
            st.builds(records.Delete, data, flag, times),
            st.builds(records.Write, data, number, data, times),
            st.builds(records.Truncate, data, number, times),
            st.builds(records.Mkdir, data, attrs, times),
            st.builds(records.Symlink, data, data, attrs, times),
            st.builds(records.Mknod, data, modes, number, attrs, times),
            st.builds(records.Link, data, data, times),
            st.builds(records.Rename, data, data, flag, flag, flag, times),
            st.builds(records.Setattr, data, attrs, flag, times),
            st.builds(records.Setxattr, data, data, data, flag, times),
            st.builds(records.Removexattr, data, data, flag, times),
        )

    return of


@pytest.fixture(params=[errno.ENOSPC, errno.EDQUOT])
def full(request):
    """Return an errno of a full disk."""
    return request.param
