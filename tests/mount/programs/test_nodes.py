"""What the kernel has let go of, the daemon has let go of too."""

import json
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

MIB = 1024 * 1024
HELD = ("references", "opens", "orphans", "pending", "scratch", "handles", "listings")


class Counted:
    """A mount whose daemon tells what it holds."""

    def __init__(self, process, mounted):
        self._process = process
        self.path = mounted.path

    def counts(self):
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


@pytest.fixture(params=["binary", "text"])
def counted(request, stores, tmp_path):
    mounted = stores.make(request.param, mount=False)
    script = Path(__file__).with_name("counting.py")
    with open(tmp_path / "stderr", "w+") as errors:
        process = subprocess.Popen(
            [sys.executable, script, mounted.store, mounted.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout.readline() == "ready\n"
            mounted.daemon = stores.adopt(mounted.store)
            yield Counted(process, mounted)
            mounted.umount()
            assert process.wait(60) == 0
            errors.seek(0)
            assert errors.read() == ""
        finally:
            process.kill()
            process.communicate()


def drop_caches():
    """Make the kernel forget every inode that nobody uses; needs root."""
    Path("/proc/sys/vm/drop_caches").write_text("3")


def settle(counted, tools, nodes):
    """Wait until nothing is held and `nodes` nodes are left; show what is if that never comes."""
    seen = {}

    def settled():
        drop_caches()
        seen.update(counted.counts())
        return not any(seen[name] for name in HELD)

    try:
        tools.until(settled)
    finally:
        print(seen)
    assert seen["nodes"] == nodes


def test_nothing_is_held_that_nobody_uses(counted, tools):
    top = counted.path
    empty = counted.counts()["nodes"]
    settle(counted, tools, empty)

    for number in range(300):
        (top / f"f{number}").write_bytes(b"x" * number)
    assert counted.counts()["references"]
    (top / "d" / "e").mkdir(parents=True)
    for number in range(0, 300, 3):
        os.link(top / f"f{number}", top / "d" / f"linked{number}")
    for number in range(0, 300, 4):
        os.rename(top / f"f{number}", top / "d" / f"renamed{number}")
    for number in range(1, 300, 4):
        os.replace(top / f"f{number}", top / f"f{number + 1}")
    (top / "link").symlink_to("d")
    os.mkfifo(top / "fifo")
    subprocess.run(["ls", "-lR", top], check=True, capture_output=True, timeout=60)
    for number in range(500):
        assert not (top / f"missing{number}").exists()
    with os.scandir(top) as entries:  # a listing that is not read to its end
        next(entries)
    left = sum(len(names) + len(files) for _, names, files in os.walk(top))
    left -= len(list((top / "d").glob("linked*")))
    for path in (top / "d").glob("linked*"):
        path.unlink()
    names = {path.stat().st_ino for path in top.rglob("*") if not path.is_symlink()}
    settle(counted, tools, empty + len(names) + 1)

    subprocess.run(f"rm -r {top}/*", shell=True, check=True, timeout=60)
    settle(counted, tools, empty)


def test_files_that_were_unlinked_open_are_let_go(counted, tools):
    top = counted.path
    empty = counted.counts()["nodes"]
    files = []
    for number in range(50):
        file = open(top / f"f{number}", "w+b")
        file.write(b"x" * (number * 40_000))
        file.flush()
        if number % 3 == 0:
            os.fsync(file.fileno())
        files.append(file)
    for number in range(50):
        if number % 5 == 0:
            (top / "over").write_bytes(b"over")
            os.replace(top / "over", top / f"f{number}")
        (top / f"f{number}").unlink()
    directory = os.open(top, os.O_RDONLY)
    (top / "gone").mkdir()
    inside = os.open(top / "gone", os.O_RDONLY)
    os.rmdir(top / "gone")
    for file in files:
        file.seek(0, os.SEEK_END)
        file.write(b"more" * 1000)
        file.flush()
    with mmap.mmap(files[-1].fileno(), 0) as mapping:
        mapping[:4] = b"mmap"
        mapping.flush()
    held = counted.counts()
    assert len(held["orphans"]) == 51
    assert len(held["opens"]) == 50
    assert held["scratch"]
    files[-1].seek(0)
    assert files[-1].read(4) == b"mmap"

    for file in files:
        file.close()
    os.close(inside)
    os.close(directory)
    settle(counted, tools, empty)


CHURN = """
import os, random, sys
top, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
names = [f"n{number}" for number in range(30)]
def path():
    return os.path.join(top, chance.choice(["a", "b", "."]), chance.choice(names))
for turn in range(1500):
    one, other = path(), path()
    what = chance.randrange(9)
    try:
        if what <= 1:
            with open(one, "ab") as file:
                file.write(b"x" * chance.randrange(5000))
        elif what == 2:
            os.link(one, other)
        elif what <= 4:
            os.rename(one, other)
        elif what == 5:
            os.unlink(one)
        elif what == 6:
            with open(one, "rb") as file:
                os.unlink(one)
                file.read()
        elif what == 7:
            list(os.scandir(os.path.dirname(one)))
        else:
            os.mkdir(one) if turn % 2 else os.rmdir(one)
    except OSError as error:
        if error.errno in (5, 22, 107):
            raise
"""


def test_processes_at_once_leave_nothing(counted, tools, python, finish):
    empty = counted.counts()["nodes"]
    (counted.path / "a").mkdir()
    (counted.path / "b").mkdir()
    seeds = [random.randrange(10**9) for _ in range(3)]
    print(seeds)
    for process in [python(CHURN, counted.path, seed, cwd="/") for seed in seeds]:
        finish(process)
    names = {path.lstat().st_ino for path in counted.path.rglob("*")}
    settle(counted, tools, empty + len(names))
    subprocess.run(["rm", "-r", counted.path / "a", counted.path / "b"], check=True, timeout=60)
    for path in counted.path.iterdir():
        subprocess.run(["rm", "-r", path], check=True, timeout=60)
    settle(counted, tools, empty)
