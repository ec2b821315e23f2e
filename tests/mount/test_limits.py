"""A daemon that runs into its resource limits refuses calls and lives on.

The limits are set on the running daemon and lifted again: then all works
without a remount, and nothing that was acknowledged is lost.
"""

import errno
import itertools
import os
import re
import resource
import select
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress

import pytest

_CREATE = os.O_CREAT | os.O_RDWR
_BACKGROUND = 1.0  # seconds between the syncs that the daemon does by itself


@contextmanager
def limit(daemon, what, amount):
    """Set a soft limit of the running daemon for as long as the context lasts."""
    soft, hard = resource.prlimit(daemon.pid, what)
    resource.prlimit(daemon.pid, what, (amount, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(daemon.pid, what, (soft, hard))


def descriptors(daemon, spare=0):
    """Return the limit under which the daemon keeps what it has open and opens `spare` more."""
    taken = {int(number) for number in os.listdir(f"/proc/{daemon.pid}/fd")}
    free = (number for number in itertools.count() if number not in taken)
    return next(itertools.islice(free, spare, None))


def address_space(daemon):
    """Return how many bytes of address space the daemon has."""
    with open(f"/proc/{daemon.pid}/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


class Attempts:
    """Calls of which some are refused; `refused` counts the errnos."""

    def __init__(self):
        self.done = []
        self.refused = Counter()

    def run(self, call, arguments):
        for argument in arguments:
            try:
                call(argument)
            except OSError as error:
                self.refused[errno.errorcode[error.errno]] += 1
            else:
                self.done.append(argument)
        return self


def assert_calm(mounted):
    """The daemon lives, and said what is wrong once for each kind of problem, not per call."""
    assert not mounted.daemon.ended(), mounted.log()[-2000:]
    kinds = Counter(
        re.sub(r"'.*?'|\d+", "*", line.partition("] ")[2]) for line in mounted.log().splitlines()
    )
    traceback = kinds.pop("", 0)  # its lines have no time
    repeated = {kind: count for kind, count in kinds.items() if count > 1 and kind != "mounted"}
    assert (traceback, repeated) == (0, {})


def content(number, size=1500):
    return b"%05d" % number * (size // 5)


def put(mounted, size=1500):
    return lambda number: (mounted.path / f"f{number}").write_bytes(content(number, size))


def assert_all_there(mounted, numbers, size=1500):
    found = {path.name: path.read_bytes() for path in mounted.path.iterdir()}
    assert found == {f"f{number}": content(number, size) for number in numbers}


@pytest.fixture(params=["binary", "text"])
def small(request, stores):
    """Return a mounted store that rolls every few files."""
    return talking(stores.make(request.param, size="4KiB"))


@pytest.fixture
def large(stores):
    """Return a mounted store of one segment."""
    return talking(stores.make("binary"))


@pytest.fixture
def opened(stores):
    """Return a function that opens files, which are closed before the mounts end."""
    with ExitStack() as stack:

        def open_(path):
            fd = os.open(path, _CREATE)
            stack.callback(_close, fd)
            return fd

        yield open_


def _close(fd):
    with suppress(OSError):
        os.close(fd)


def talking(mounted):
    """Return `mounted`, whose daemon may log what is wrong; `assert_calm` looks at that."""
    mounted.quiet = False
    return mounted


@pytest.mark.parametrize("spare", range(3))
def test_rolls_without_descriptors(small, spare):
    put(small)(0)
    with limit(small.daemon, resource.RLIMIT_NOFILE, descriptors(small.daemon, spare)):
        attempts = Attempts().run(put(small), range(1, 60))
        assert set(attempts.refused) == {"EMFILE"}
        assert (small.path / "f0").read_bytes() == content(0)
    attempts.run(put(small), range(60, 70))
    assert attempts.done[-10:] == list(range(60, 70))
    assert_calm(small)
    assert_all_there(small, [0, *attempts.done])
    small.remount()
    assert_all_there(small, [0, *attempts.done])


def test_overwriting_without_descriptors_keeps_the_old_values(small):
    for number in range(20):
        put(small)(number)
    descriptor = descriptors(small.daemon)
    with limit(small.daemon, resource.RLIMIT_NOFILE, descriptor):
        overwrite = lambda number: (small.path / f"f{number}").write_bytes(b"new" * 500)  # noqa: E731
        attempts = Attempts().run(overwrite, range(20))
        assert set(attempts.refused) == {"EMFILE"}
        renames = Attempts().run(
            lambda number: os.rename(small.path / f"f{number}", small.path / f"{number:0200}"),
            range(20),
        )
        assert set(renames.refused) == {"EMFILE"}
    small.kill()
    small.mount()
    for number in range(20):
        old, new = small.path / f"f{number}", small.path / f"{number:0200}"
        assert old.exists() != new.exists()
        assert new.exists() == (number in renames.done)
        there = new if new.exists() else old
        assert there.read_bytes() == (b"new" * 500 if number in attempts.done else content(number))


def test_cold_reads_of_many_segments_without_descriptors(small):
    numbers = range(150)
    for number in numbers:
        put(small)(number)
    small.remount()
    read = lambda number: (small.path / f"f{number}").read_bytes()  # noqa: E731
    with limit(small.daemon, resource.RLIMIT_NOFILE, descriptors(small.daemon, 3)):
        attempts = Attempts().run(read, [*numbers, *numbers])
        assert set(attempts.refused) <= {"EMFILE"}
        assert attempts.done, "not even what is open can be read"
    assert_all_there(small, numbers)
    put(small)(150)
    assert_calm(small)


def test_nameless_files_without_descriptors(large, opened):
    fds = [opened(large.path / f"n{number}") for number in range(30)]
    for number, fd in enumerate(fds):
        os.write(fd, content(number))
        os.fsync(fd)
        os.unlink(large.path / f"n{number}")
    append = lambda number: os.pwrite(fds[number], b"more", 1500)  # noqa: E731
    with limit(large.daemon, resource.RLIMIT_NOFILE, descriptors(large.daemon, 4)):
        attempts = Attempts().run(append, range(30))
        for number in attempts.done:
            assert os.pread(fds[number], 2000, 0) == content(number) + b"more"
    assert set(attempts.refused) == {"EMFILE"}
    for number, fd in enumerate(fds):
        append(number)
        assert os.pread(fd, 2000, 0) == content(number) + b"more"
    assert_calm(large)


def test_the_background_goes_on_once_there_are_descriptors(stores, opened, tools):
    mounted = talking(stores.make("binary", size="4KiB"))
    fd = opened(mounted.path / "open")
    os.write(fd, b"1")
    os.fsync(fd)
    with limit(mounted.daemon, resource.RLIMIT_NOFILE, descriptors(mounted.daemon)):
        attempts = Attempts().run(put(mounted, 50), range(100))
        assert set(attempts.refused) == {"EMFILE"}
        for number in attempts.done:
            assert (mounted.path / f"f{number}").read_bytes() == content(number, 50)
        # What the background meets now shows nowhere before the limit is lifted.
        select.select([], [], [], 2.5 * _BACKGROUND)
    os.write(fd, b"logged in the background")
    tools.until(lambda: b"logged in the background" in mounted.segments())
    assert_calm(mounted)


def test_writes_without_memory(large, opened):
    (large.path / "old").write_bytes(b"old")
    fds = [opened(large.path / f"f{number}") for number in range(40)]
    data = os.urandom(1_000_000)
    with limit(large.daemon, resource.RLIMIT_AS, address_space(large.daemon) + 6_000_000):
        attempts = Attempts().run(lambda number: os.write(fds[number], data), range(40))
        assert (large.path / "old").read_bytes() == b"old"
    for fd in fds:
        assert os.pwrite(fd, data, 0) == len(data)
        os.close(os.dup(fd))
    large.kill()
    large.mount()
    assert {path.stat().st_size for path in large.path.glob("f*")} == {len(data)}
    assert (large.path / "f39").read_bytes() == data
    assert_calm(large)
    assert set(attempts.refused) == {"ENOMEM"}


def test_reads_without_memory(large):
    data = os.urandom(1_000_000)
    for number in range(30):
        (large.path / f"f{number}").write_bytes(data)
    large.remount()
    read = lambda number: (large.path / f"f{number}").read_bytes()  # noqa: E731
    with limit(large.daemon, resource.RLIMIT_AS, address_space(large.daemon) + 5_000_000):
        attempts = Attempts().run(read, range(30))
    for number in range(30):
        assert read(number) == data
    assert_calm(large)
    assert set(attempts.refused) == {"ENOMEM"}


def test_an_fsync_without_room_for_a_thread(large, opened):
    """The stack of a thread takes more address space than there is."""
    fd = opened(large.path / "f")
    os.write(fd, b"1")
    with limit(large.daemon, resource.RLIMIT_AS, address_space(large.daemon) + 4_000_000):
        attempts = Attempts().run(lambda _: os.fsync(fd), range(5))
    os.write(fd, b"2")
    os.fsync(fd)
    large.kill()
    large.mount()
    assert (large.path / "f").read_bytes() == b"12"
    assert_calm(large)
    assert set(attempts.refused) <= {"ENOMEM", "EAGAIN"}


def test_the_background_without_room_for_a_thread(large):
    with limit(large.daemon, resource.RLIMIT_AS, address_space(large.daemon) + 4_000_000):
        (large.path / "f").write_bytes(b"1")
        # What the background meets now shows nowhere before the limit is lifted.
        select.select([], [], [], 2.5 * _BACKGROUND)
        assert_calm(large)
    fd = os.open(large.path / "f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert_calm(large)


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("room", [0, 700, 20_000])
def test_a_segment_over_the_limit_of_a_file(stores, form, room):
    mounted = talking(stores.make(form))
    put(mounted)(0)
    size = len(mounted.segments())
    with limit(mounted.daemon, resource.RLIMIT_FSIZE, size + room):
        attempts = Attempts().run(put(mounted), range(1, 30))
        assert attempts.refused
        assert (mounted.path / "f0").read_bytes() == content(0)
    refused = set(attempts.refused)
    attempts.run(put(mounted), range(30, 35))
    mounted.kill()
    mounted.mount()
    assert_all_there(mounted, [0, *attempts.done])
    assert_calm(mounted)
    assert attempts.done[-5:] == list(range(30, 35)), attempts.refused
    assert refused <= {"EFBIG", "ENOSPC"}
