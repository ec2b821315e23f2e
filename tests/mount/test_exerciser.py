"""One file, many random operations, every byte verified against a model.

The count and the seeds are for CI; more come by hand:
`KVFS_HANG=36000 KVFS_EXERCISE=100000 KVFS_SEEDS=10 bash tests/run.sh tests/mount/test_exerciser.py --timeout 0`
"""

import mmap
import os
import random

import pytest

COUNT = int(os.environ.get("KVFS_EXERCISE", "1500"))
SEEDS = range(int(os.environ.get("KVFS_SEEDS", "2")))
LIMIT = 3 * 1024 * 1024
PAGE = mmap.PAGESIZE


class Exerciser:
    """A file of the mount and what it must hold."""

    def __init__(self, mounted, seed):
        self.mounted = mounted
        self.random = random.Random(seed)
        self.path = mounted.path / "file"
        self.model = bytearray()
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.other = os.open(self.path, os.O_RDWR)

    def span(self):
        """Return an offset and a length, small or large, anywhere or near the end."""
        length = self.random.choice([1, 100, 4096, 5000, 70_000, 200_000])
        length = self.random.randint(1, length)
        near = self.random.choice([len(self.model), self.random.randint(0, LIMIT)])
        return min(near, LIMIT - length), length

    def put(self, offset, data):
        self.model.extend(bytes(max(0, offset + len(data) - len(self.model))))
        self.model[offset : offset + len(data)] = data

    def write(self):
        offset, length = self.span()
        data = self.random.randbytes(length)
        assert os.pwrite(self.random.choice([self.fd, self.other]), data, offset) == length
        self.put(offset, data)

    def append(self):
        data = self.random.randbytes(self.span()[1])
        if len(self.model) + len(data) > LIMIT:
            return
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        assert os.write(fd, data) == len(data)
        os.close(fd)
        self.model += data

    def read(self):
        offset, length = self.span()
        fd = self.random.choice([self.fd, self.other])
        assert os.pread(fd, length, offset) == self.model[offset : offset + length]

    def truncate(self):
        size = self.random.choice([0, self.random.randint(0, LIMIT), len(self.model)])
        if self.random.random() < 0.5 or not os.fstat(self.fd).st_nlink:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def map_write(self):
        if not self.model:
            return
        offset, length = self.span()
        start = offset // PAGE * PAGE
        end = min(offset + length, len(self.model))
        if end <= offset:
            return
        with mmap.mmap(self.fd, end - start, offset=start) as view:
            data = self.random.randbytes(end - offset)
            view[offset - start : end - start] = data
            if self.random.random() < 0.5:
                view.flush()
        self.put(offset, data)

    def map_read(self):
        if self.model:
            with mmap.mmap(self.other, 0, prot=mmap.PROT_READ) as view:
                assert view[:] == self.model

    def empty(self):
        os.close(os.open(self.path, os.O_WRONLY | os.O_TRUNC))
        self.model.clear()

    def reopen(self):
        os.close(self.fd)
        assert self.path.read_bytes() == self.model
        self.fd = os.open(self.path, os.O_RDWR)

    def sync(self):
        os.fsync(self.fd)

    def stat(self):
        assert os.fstat(self.other).st_size == len(self.model)

    def remount(self):
        os.close(self.fd)
        os.close(self.other)
        self.mounted.remount()
        assert self.path.read_bytes() == self.model
        self.fd = os.open(self.path, os.O_RDWR)
        self.other = os.open(self.path, os.O_RDWR)

    def close(self):
        os.close(self.fd)
        os.close(self.other)


WEIGHTS = {
    "write": 30,
    "append": 6,
    "read": 30,
    "truncate": 4,
    "map_write": 10,
    "map_read": 2,
    "empty": 1,
    "reopen": 6,
    "sync": 2,
    "stat": 9,
}


NAMELESS = {name: WEIGHTS[name] for name in WEIGHTS if name not in {"append", "empty", "reopen"}}


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_byte_is_what_was_written(stores, form, seed):
    exerciser = Exerciser(stores.make(form, size=4 * 1024 * 1024), seed)
    try:
        for number in range(1, COUNT + 1):
            (step,) = exerciser.random.choices(list(WEIGHTS), WEIGHTS.values())
            getattr(exerciser, step)()
            if number % 500 == 0:
                exerciser.remount()
    finally:
        exerciser.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_so_it_is_in_a_file_without_a_name(stores, seed):
    exerciser = Exerciser(stores.make("binary"), seed)
    try:
        for number in range(COUNT // 4):
            if number == 50:
                exerciser.path.unlink()
            (step,) = exerciser.random.choices(list(NAMELESS), NAMELESS.values())
            getattr(exerciser, step)()
    finally:
        exerciser.close()
