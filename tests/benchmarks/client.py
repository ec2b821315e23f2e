"""The client on a mount: does one kind of call many times and says how many seconds it took.

    python -I client.py OPERATION <<<'{"directory": ..., ...}'

Run by the harness for every measurement, so that a mount that hangs hangs this process and not the
harness. Names and data are made before the clock starts, names are relative to the working
directory, and what was read or written is checked, which costs next to nothing or is done
afterwards. Nothing but the standard library; the answer is one number on standard output.
"""

import gc
import json
import os
import random
import subprocess
import sys
import time

MIB = 2**20
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_clock = time.perf_counter


def names(prefix, count):
    return [b"%s%06d" % (prefix.encode(), number) for number in range(count)]


def expect(found, wanted, what):
    if found != wanted:
        sys.exit(f"{what}: {found} instead of {wanted}")


def _writing(flags, prefix, count, size, sized):
    """Open every file with `flags`, write to it and close it; it has `sized` bytes then."""
    every, value = names(prefix, count), b"v" * size
    openf, write, close = os.open, os.write, os.close
    start = _clock()
    for name in every:
        fd = openf(name, flags, 0o644)
        write(fd, value)
        close(fd)
    seconds = _clock() - start
    expect(os.stat(every[-1]).st_size, sized, "size of the last file")
    return seconds


def create(prefix, count, size):
    return _writing(_NEW, prefix, count, size, size)


def overwrite(prefix, count, size):
    return _writing(os.O_WRONLY | os.O_TRUNC, prefix, count, size, size)


def append(prefix, count, size):
    return _writing(os.O_WRONLY | os.O_APPEND, prefix, count, size, 2 * size)


def read(prefix, count, size):
    every, most, total = names(prefix, count), size + 1, 0
    openf, readf, close, flags = os.open, os.read, os.close, os.O_RDONLY
    start = _clock()
    for name in every:
        fd = openf(name, flags)
        total += len(readf(fd, most))
        close(fd)
    seconds = _clock() - start
    expect(total, count * size, "bytes read")
    return seconds


def stat(prefix, count):
    every, call = names(prefix, count), os.stat
    start = _clock()
    for name in every:
        call(name)
    return _clock() - start


def readdir(count, times):
    start = _clock()
    for _ in range(times):
        found = len(os.listdir(b"."))
    seconds = _clock() - start
    expect(found, count, "entries")
    return seconds


def rename(prefix, count, to):
    pairs, call = list(zip(names(prefix, count), names(to, count), strict=True)), os.rename
    start = _clock()
    for old, new in pairs:
        call(old, new)
    return _clock() - start


def unlink(prefix, count):
    every, call = names(prefix, count), os.unlink
    start = _clock()
    for name in every:
        call(name)
    seconds = _clock() - start
    expect(os.path.exists(every[-1]), False, "the last file is there")
    return seconds


def stream_write(name, size):
    block = os.urandom(MIB)
    start = _clock()
    fd = os.open(name, _NEW, 0o644)
    for _ in range(size // MIB):
        expect(os.write(fd, block), MIB, "bytes taken by a write")
    os.close(fd)
    seconds = _clock() - start
    expect(os.stat(name).st_size, size, "size of the file")
    return seconds


def stream_read(name, size):
    block, total = [bytearray(MIB)], 0
    start = _clock()
    fd = os.open(name, os.O_RDONLY)
    while got := os.readv(fd, block):
        total += got
    os.close(fd)
    seconds = _clock() - start
    expect(total, size, "bytes read")
    return seconds


def random_read(name, size, count):
    chance = random.Random(7)
    offsets = [chance.randrange(size // 4096) * 4096 for _ in range(count)]
    pread, total = os.pread, 0
    fd = os.open(name, os.O_RDONLY)
    start = _clock()
    for offset in offsets:
        total += len(pread(fd, 4096, offset))
    seconds = _clock() - start
    os.close(fd)
    expect(total, count * 4096, "bytes read")
    return seconds


def fsync(prefix, writers, each, size):
    """Let so many processes write files at once; the time is that of all of them together."""
    waiting, gate = os.pipe()
    children = []
    for writer in range(writers):
        every = names(f"{prefix}{writer}-", each)
        if pid := os.fork():
            children.append(pid)
        else:
            os.close(gate)
            _synced(every, b"v" * size, waiting)
    time.sleep(0.05)  # until all of them wait
    start = _clock()
    os.close(gate)
    ends = [os.waitpid(pid, 0)[1] for pid in children]
    seconds = _clock() - start
    expect(ends, [0] * writers, "statuses of the writers")
    return seconds


def _synced(every, value, waiting):
    status = 1
    try:
        os.read(waiting, 1)
        for name in every:
            fd = os.open(name, _NEW, 0o644)
            os.write(fd, value)
            os.fsync(fd)
            os.close(fd)
        status = 0
    finally:
        os._exit(status)


def command(words):
    """Run a program; what it writes is not looked at."""
    start = _clock()
    done = subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    seconds = _clock() - start
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no word"]
        sys.exit(f"{words[0]} ended with {done.returncode}: {said[0]}")
    return seconds


OPERATIONS = {
    call.__name__: call
    for call in (
        create,
        overwrite,
        append,
        read,
        stat,
        readdir,
        rename,
        unlink,
        stream_write,
        stream_read,
        random_read,
        fsync,
        command,
    )
}


def main():
    asked = json.load(sys.stdin)
    gc.disable()
    try:
        os.chdir(asked.pop("directory"))
        print(OPERATIONS[sys.argv[1]](**asked))
    except OSError as error:
        sys.exit(f"{sys.argv[1]}: {error}")


if __name__ == "__main__":
    main()
