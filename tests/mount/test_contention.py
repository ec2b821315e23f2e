"""Eight processes on one mount, on files of their own and on the same ones."""

import errno
import fcntl
import os
import random
import stat
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
from processes import FORK, PATIENCE, together

_PROCESSES = 8


def all_at_once(work, *args):
    return together([partial(work, *args, number) for number in range(_PROCESSES)])


@pytest.fixture(params=["binary", "text"])
def small(request, stores):
    """Return a mounted store that rolls often."""
    return stores.make(request.param, size="256KiB")


def after_a_crash(mounted):
    """Kill the daemon, whose log must be sound, and mount again."""
    mounted.kill()
    assert mounted.records()
    mounted.mount()


def line(number, turn):
    """Return a line that names its writer and turn, of some size."""
    return b"%d %d %s\n" % (
        number,
        turn,
        b"x" * random.Random(number * 1000 + turn).randrange(3000),
    )


def append(path, number):
    held = os.open(path, os.O_WRONLY | os.O_APPEND)
    for turn in range(60):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND) if turn % 3 else held
        data = line(number, turn)
        assert os.write(fd, data) == len(data)
        if turn % 3:
            os.close(fd)
        if turn % 10 == 0:
            os.fsync(held)
    os.close(held)


def test_appends_of_all_to_one_file_lose_and_tear_no_line(small):
    path = small.path / "log"
    path.touch()
    all_at_once(append, path)
    expected = {line(number, turn) for number in range(_PROCESSES) for turn in range(60)}
    for _ in range(2):
        lines = path.read_bytes().splitlines(keepends=True)
        assert len(lines) == len(expected)
        assert set(lines) == expected
        for number in range(_PROCESSES):
            turns = [int(words[1]) for one in lines if int((words := one.split())[0]) == number]
            assert turns == list(range(60))
        after_a_crash(small)


_BLOCKS = 64
_BLOCK = 3000


def block(number, turn):
    return b"%d %d " % (number, turn) * _BLOCK


def fill(path, number):
    """Write every eighth block of a file, in any order, through one descriptor."""
    turns = random.Random(number).sample(range(_BLOCKS), _BLOCKS)
    fd = os.open(path, os.O_RDWR)
    for turn in turns:
        data = block(number, turn)[:_BLOCK]
        place = (turn * _PROCESSES + number) * _BLOCK
        assert os.pwrite(fd, data, place) == _BLOCK
        assert os.pread(fd, _BLOCK, place) == data
        if turn % 16 == 0:
            os.fsync(fd)
    os.close(fd)


def test_blocks_of_all_in_one_file_do_not_touch_each_other(small):
    path = small.path / "blocks"
    path.touch()
    all_at_once(fill, path)
    expected = b"".join(
        block(number, turn)[:_BLOCK] for turn in range(_BLOCKS) for number in range(_PROCESSES)
    )
    for _ in range(2):
        assert path.read_bytes() == expected
        after_a_crash(small)


def compete(top, gate, number):
    os.chdir(top)
    won = []

    def attempt(what, call, *args):
        with suppress(FileExistsError, FileNotFoundError):
            call(*args)
            won.append(what)

    for turn in range(30):
        gate.wait(PATIENCE)
        attempt(("mkdir", turn), os.mkdir, f"mkdir{turn}")
        attempt(("create", turn), os.mknod, f"mknod{turn}")
        attempt(("symlink", turn), os.symlink, str(number), f"symlink{turn}")
        attempt(("link", turn), os.link, f"shared{turn}", f"link{turn}")
        attempt(("rename", turn), os.rename, f"rename{turn}", f"renamed{turn}by{number}")
        attempt(("unlink", turn), os.unlink, f"unlink{turn}")
        attempt(("rmdir", turn), os.rmdir, f"rmdir{turn}")
        attempt(("excl", turn), lambda name: open(name, "x").close(), f"excl{turn}")
    return won


def test_what_only_one_can_do_is_done_by_one(small):
    for turn in range(30):
        for name in ("shared", "rename", "unlink"):
            (small.path / f"{name}{turn}").touch()
        (small.path / f"rmdir{turn}").mkdir()
    won = all_at_once(compete, small.path, FORK.Barrier(_PROCESSES))
    counts = Counter(what for each in won for what in each)
    assert len(counts) == 8 * 30
    assert set(counts.values()) == {1}
    assert {(small.path / f"shared{turn}").stat().st_nlink for turn in range(30)} == {2}


_EXPECTED = {
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTEMPTY,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EINVAL,  # a directory into itself
    errno.EPERM,  # a link to a directory
}


def storm(top, number):
    os.chdir(top)
    rng = random.Random(number)

    def directory():
        return "/".join(rng.choice("ABC") for _ in range(rng.randint(1, 2)))

    def path():
        return rng.choice(["", f"{directory()}/"]) + rng.choice("xyz")

    def write():
        with open(path(), "ab") as file:
            file.write(b"x" * rng.randrange(5000))

    calls = {
        "mkdir": lambda: os.mkdir(directory()),
        "rmdir": lambda: os.rmdir(directory()),
        "move": lambda: os.rename(directory(), directory()),
        "rename": lambda: os.rename(path(), path()),
        "mix": lambda: os.rename(path(), directory()),
        "unlink": lambda: os.unlink(path()),
        "link": lambda: os.link(path(), path()),
        "write": write,
        "list": lambda: os.listdir(directory()),
        "stat": lambda: os.lstat(path()),
    }
    done = Counter()
    for _ in range(500):
        name = rng.choice([*calls, "mkdir", "mkdir", "write"])
        try:
            calls[name]()
            done[name] += 1
        except OSError as error:
            if error.errno not in _EXPECTED:
                raise
    return done


def links(top):
    """Return the link counts that the names below `top` make, and those that are told."""
    made, told = Counter(), {}
    for directory, names, files in os.walk(top):
        info = os.stat(directory)
        made[info.st_ino] += 2 + len(names)
        told[info.st_ino] = info.st_nlink
        for name in files:
            info = os.lstat(os.path.join(directory, name))
            made[info.st_ino] += 1
            told[info.st_ino] = info.st_nlink
    return made, told


def test_a_storm_of_names_leaves_a_tree_that_is_whole(small, tools):
    done = sum(all_at_once(storm, small.path), Counter())
    assert len(done) == 10, done
    assert done.total() > 1000, done
    made, told = links(small.path)
    assert made == told
    before = tools.tree(small.path)
    after_a_crash(small)
    assert tools.tree(small.path) == before
    assert links(small.path) == (made, told)


def count_up(top, number):
    """Count in one file under a lock, replace another, and keep one of its own."""
    os.chdir(top)
    for turn in range(25):
        with open("counter", "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            value = int(file.read())
            file.seek(0)
            file.write(str(value + 1))
            file.flush()
        with open(f"new{number}", "wb") as file:
            file.write(b"%d" % number * 20_000)
        os.rename(f"new{number}", "replaced")
        with open("replaced", "rb") as file:
            found = file.read()
        assert found == found[:1] * 20_000, "a replaced file is mixed"
        mine = b"%d/%d " % (number, turn) * 500 * (turn % 5)
        with open(f"own{number}", "wb") as file:
            file.write(mine)
        with open(f"own{number}", "rb") as file:
            assert file.read() == mine
    return mine


def test_counters_replaced_and_own_files(small):
    (small.path / "counter").write_text("0")
    own = all_at_once(count_up, small.path)
    for _ in range(2):
        assert (small.path / "counter").read_text() == str(25 * _PROCESSES)
        assert [(small.path / f"own{n}").read_bytes() for n in range(_PROCESSES)] == own
        assert stat.S_ISREG((small.path / "replaced").stat().st_mode)
        after_a_crash(small)
