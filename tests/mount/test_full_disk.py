"""A store on a disk of 16 MiB that is filled to the brim through the mount."""

import errno
import mmap
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

MIB = 1024 * 1024
DISK = 16 * MIB


@pytest.fixture(params=["binary", "text"])
def small(request, stores):
    """Return a mounted store on a small disk, with a few values."""
    disk = stores.directory / "disk"
    disk.mkdir()
    options = f"size={DISK}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)
    mounted = stores.make(request.param, name="disk", size=4 * MIB)
    mounted.quiet = False
    (mounted.path / "kept").mkdir()
    for number in range(8):
        (mounted.path / "kept" / str(number)).write_bytes(value(number, 20_000 * number))
    return mounted


def value(seed, size):
    """Return bytes that differ from place to place and need no escapes in the text format."""
    pattern = b"".join(b"%d %d; " % (seed, number) for number in range(2000))
    return (pattern * (size // len(pattern) + 1))[:size]


class Filler:
    """Writes until the disk is full; `held` is what was acknowledged, by path."""

    def __init__(self, top):
        self.top = top
        self.held = {}

    def until_full(self, pieces):
        """Take `pieces` one by one; the disk must be full before the last."""
        for number in range(pieces):
            try:
                self.fill(number)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    return
                raise
        pytest.fail("the disk did not fill")


class Small(Filler):
    """Many small files."""

    def fill(self, number):
        path = self.top / f"small{number}"
        path.write_bytes(value(number, 30_000))
        self.held[path] = value(number, 30_000)


class Large(Filler):
    """One large file, which the kernel cuts into writes."""

    def fill(self, number):
        (self.top / "large").write_bytes(value(number, 40 * MIB))


class Append(Filler):
    """Appends to one file, each opened and closed by itself."""

    def fill(self, number):
        path = self.top / "appended"
        with open(path, "ab", buffering=0) as file:
            file.write(value(number, 50_000))
        self.held[path] = self.held.get(path, b"") + value(number, 50_000)


class Synced(Filler):
    """Appends through one descriptor, each with its fsync."""

    def fill(self, number):
        path = self.top / "synced"
        with open(path, "ab", buffering=0) as file:
            for turn in range(20):
                data = value(number + turn, 30_000)
                file.write(data)
                os.fsync(file.fileno())
                self.held[path] = self.held.get(path, b"") + data


class Mapping(Filler):
    """Files written through mappings, with msync."""

    def fill(self, number):
        path = self.top / f"mapped{number}"
        with open(path, "w+b") as file:
            os.ftruncate(file.fileno(), 300_000)
            with mmap.mmap(file.fileno(), 300_000) as mapping:
                mapping[:] = value(number, 300_000)
                mapping.flush()
        self.held[path] = value(number, 300_000)


class Attributes(Filler):
    """Extended attributes, of one file, set and set again."""

    def fill(self, number):
        path = self.top / "kept" / "1"
        os.setxattr(path, b"user.x", value(number, 50_000))
        self.held[path] = os.getxattr(path, b"user.x")


class Directories(Filler):
    """Directories, after a file has taken nearly all room."""

    def fill(self, number):
        _fill_below(self.top)
        os.mkdir(self.top / f"{'directory' * 20}{number}")
        self.held[self.top / f"{'directory' * 20}{number}"] = None


class Renames(Filler):
    """One file that is renamed to and fro, after another has taken nearly all room."""

    def fill(self, number):
        _fill_below(self.top)
        names = [self.top / ("name" * 60 + end) for end in "ab"]
        if not number:
            names[0].touch()
        os.rename(names[number % 2], names[1 - number % 2])
        self.held.pop(names[number % 2], None)
        self.held[names[1 - number % 2]] = b""


def _fill_below(top):
    """Take what room there is below the mount at `top`, but for some pages."""
    filler = top.parent / "filler"
    if not filler.exists():
        left = os.statvfs(top.parent).f_bavail * os.sysconf("SC_PAGESIZE")
        filler.write_bytes(bytes(left - 64 * 1024))


WRITERS = [Small, Large, Append, Synced, Mapping, Attributes, Directories, Renames]


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.__name__.lower())
def test_a_disk_that_is_filled(small, writer):
    before = read(small.path / "kept")
    filler = writer(small.path)
    filler.until_full(5000)
    for _ in range(2):
        assert read(small.path / "kept") == before
        for path, held in filler.held.items():
            check(path, held)
        assert not small.daemon.ended()
        assert "Traceback" not in small.log()
        small.remount()
    (small.path.parent / "filler").unlink(missing_ok=True)


def check(path, held):
    if held is None:
        assert path.is_dir()
    elif path.parent.name == "kept":
        assert os.getxattr(path, b"user.x") == held
    else:
        assert path.read_bytes()[: len(held)] == held


def read(top):
    return {path.name: path.read_bytes() for path in Path(top).iterdir()}


def test_it_goes_on_when_there_is_room_again(small):
    ballast = small.path.parent / "ballast"
    ballast.write_bytes(bytes(2 * MIB))
    filler = Small(small.path)
    filler.until_full(5000)
    ballast.unlink()
    (small.path / "after").write_bytes(value(1, 100_000))
    os.rename(small.path / "small0", small.path / "moved")
    with suppress(FileNotFoundError):
        os.unlink(small.path / "small1")
    small.kill()
    small.mount()
    assert (small.path / "after").read_bytes() == value(1, 100_000)
    assert (small.path / "moved").read_bytes() == value(0, 30_000)
    assert not (small.path / "small1").exists()
    assert "Traceback" not in small.log()


def until_written(tools, path, data):
    """Write `data` to `path` once there is room for it."""

    def written():
        try:
            path.write_bytes(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True

    tools.until(written)


def test_what_is_deleted_makes_room_again(small, tools):
    if small.store.joinpath("store.toml").read_text().count('"text"'):
        return  # a text log grows, until it is compacted while nobody has it mounted
    for turn in range(3):
        filler = Small(small.path)

        def filled(filler=filler):
            filler.until_full(5000)
            return filler.held

        tools.until(filled)  # what was deleted before comes back by and by
        paths = sorted(filler.held)
        assert turn or len(paths) > 300
        for path in paths[turn % 2 :: 2] if turn else paths:
            path.unlink()
            del filler.held[path]
        until_written(tools, small.path / "again", value(turn, 200_000))
        for path, held in filler.held.items():
            assert path.read_bytes() == held
        assert read(small.path / "kept") == {
            str(number): value(number, 20_000 * number) for number in range(8)
        }
        for path in filler.held:
            path.unlink()
    assert "Traceback" not in small.log()
    small.remount()
    assert (small.path / "again").read_bytes() == value(2, 200_000)


def test_overwriting_on_a_full_disk_is_paid_by_the_past(small, tools):
    if small.store.joinpath("store.toml").read_text().count('"text"'):
        return
    for turn in range(60):  # 60 MiB
        until_written(tools, small.path / "hot", value(turn, MIB))
    assert (small.path / "hot").read_bytes() == value(59, MIB)
    small.kill()
    small.mount()
    assert (small.path / "hot").read_bytes() == value(59, MIB)
