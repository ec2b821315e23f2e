"""Every way in which a mount ends, in the middle of the writes of several processes."""

import os
import random
import select
import signal
import subprocess

import pytest
from workload import ALL_SIZES, SMALL_SIZES, progressed, writers

_WRITERS = 3
_LEAST = 60  # operations that are acknowledged before the end


class Ending:
    """A mount, those who write on it, and how it is to end."""

    def __init__(self, mounted, working, tools):
        self.mounted, self._working, self._tools = mounted, working, tools

    def stop_writers(self):
        for writer in self._working:
            writer.stop()
        self.join_writers()

    def join_writers(self):
        for writer in self._working:
            writer.join(self._tools.PATIENCE)

    def is_idle(self):
        return not any(writer.running for writer in self._working)


def by_signal(number):
    def end(ending):
        ending.mounted.daemon.send(number)

    end.__name__ = signal.Signals(number).name
    return end


def by_umount(ending):
    """The mount is busy until the writers have ended."""
    command = ["umount", ending.mounted.path]
    busy = subprocess.run(command, check=False, capture_output=True)
    assert b"busy" in busy.stderr
    ending.stop_writers()
    subprocess.run(command, check=True, timeout=20)


def by_lazy_umount(ending):
    """Those who have something open go on, and the daemon with them."""
    path = ending.mounted.path
    with open(path / "held", "wb", buffering=0) as held:
        subprocess.run(["umount", "-l", path], check=True, timeout=20)
        assert os.listdir(path) == []
        ending.stop_writers()
        assert held.write(b"written after") == 13
        assert not ending.mounted.daemon.ended()


def by_abort(ending):
    """The connection is cut, as an administrator does whose mount hangs."""
    ending.mounted.quiet = False  # replies to calls that were cut off cannot be delivered
    control = ending.mounted.store.parent / "connections"
    control.mkdir()
    subprocess.run(["mount", "-t", "fusectl", "fusectl", control], check=True)
    number = os.minor(os.stat(ending.mounted.path).st_dev)
    (control / str(number) / "abort").write_bytes(b"1")
    subprocess.run(["umount", control], check=True)


def by_kill(ending):
    ending.mounted.daemon.send(signal.SIGKILL)


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize(
    "end",
    [
        *map(by_signal, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)),
        by_umount,
        by_lazy_umount,
        by_abort,
        by_kill,
    ],
    ids=lambda end: end.__name__,
)
def test_an_end_in_the_middle_loses_nothing_acknowledged(stores, tools, end, form):
    mounted = stores.make(form, size="256KiB")
    rng = random.Random(end.__name__ + form)
    sizes = ALL_SIZES if form == "binary" else SMALL_SIZES
    with writers(mounted.path, stores.directory, _WRITERS) as working:
        for writer in working:
            writer.start(rng.randrange(2**40), sizes)
        tools.until(lambda: progressed(working, _LEAST))
        ending = Ending(mounted, working, tools)
        assert not ending.is_idle()
        end(ending)
        ending.join_writers()
        assert mounted.daemon.ended(tools.PATIENCE)
        assert "Traceback" not in mounted.log()
        killed = end is by_kill
        if not killed:
            assert mounted.holder() is None
            assert (mounted.store / "clean").exists()
        assert mounted.records()
        mounted.mount()
        assert sum(writer.verify(clean=not killed) for writer in working) >= _LEAST
    if end is by_lazy_umount:
        assert (mounted.path / "held").read_bytes() == b"written after"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_impatient_user_does_not_spoil_the_end(binary, number):
    """Signals that come again while the daemon ends do not cut the end short."""
    files = [os.open(binary.path / f"f{n}", os.O_RDWR | os.O_CREAT) for n in range(20)]
    for fd in files:
        os.write(fd, os.urandom(1_000_000))
    while not binary.daemon.ended():
        binary.daemon.send(number)
        select.select([], [], [], 0.001)
    for fd in files:
        with pytest.raises(OSError, match=r"not connected|connection abort"):
            os.close(fd)
    assert "Traceback" not in binary.log()
    assert binary.holder() is None
    assert (binary.store / "clean").exists()
    binary.mount()
    assert {path.stat().st_size for path in binary.path.iterdir()} == {1_000_000}
