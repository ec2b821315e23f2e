"""Large and odd: many entries, far offsets, long paths, and calls that few programs make."""

import ctypes
import errno
import os
import struct
import subprocess
import tempfile

import pytest

import kvfs

MIB = 1024 * 1024
GIB = 1024 * MIB
PATH_MAX = 4096
ENTRIES = 100_000
MADE = 2_000  # of them, through the mount; the others are put, which is faster
LEFT = 10_000  # of them, for rm
_libc = ctypes.CDLL(None, use_errno=True)

# Says that it runs, makes and removes names until it is told to stop, and how many there were.
CHURN = """
import os, select, sys
os.chdir("d")
turn = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    for number in range(20):
        os.mknod(f"other{turn}.{number}")
    for number in range(20):
        os.unlink(f"other{turn}.{number}")
    turn += 1
    if turn == 1:
        print("running", flush=True)
print(turn)
"""


class Dirent(ctypes.Structure):
    """`struct dirent` of 64-bit Linux."""

    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("off", ctypes.c_int64),
        ("reclen", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


_libc.opendir.restype = ctypes.c_void_p
_libc.opendir.argtypes = (ctypes.c_char_p,)
_libc.readdir.restype = ctypes.POINTER(Dirent)
_libc.readdir.argtypes = _libc.closedir.argtypes = (ctypes.c_void_p,)
_libc.telldir.restype = ctypes.c_long
_libc.telldir.argtypes = (ctypes.c_void_p,)
_libc.seekdir.restype = None
_libc.seekdir.argtypes = (ctypes.c_void_p, ctypes.c_long)


def read_on(stream):
    """Yield the names that readdir(3) gives from here on."""
    while entry := _libc.readdir(stream):
        yield entry.contents.name


def test_a_directory_of_100_000_entries(stores, python, finish):
    mounted = stores.make("binary", mount=False)
    with kvfs.open(mounted.store) as store:
        for number in range(ENTRIES - MADE):
            store.put(f"d/{number}", b"")
    mounted.mount()
    directory = mounted.path / "d"
    for number in range(ENTRIES - MADE, ENTRIES):
        os.mknod(directory / str(number))
    names = {str(number) for number in range(ENTRIES)}

    other = python(CHURN, cwd=mounted.path)
    assert other.stdout.readline() == "running\n"
    for _ in range(2):
        with os.scandir(directory) as entries:
            found = [entry.name for entry in entries]
        assert len(found) == len(set(found))
        assert {name for name in found if not name.startswith("other")} == names
    assert int(finish(other, "stop\n")) > 1

    stream = _libc.opendir(os.fsencode(directory))
    assert stream
    try:
        positions, order = [], []
        for number, name in enumerate(read_on(stream)):
            order.append(name)
            if number % 9973 == 0:
                positions.append((number + 1, _libc.telldir(stream)))
        assert {os.fsdecode(name) for name in order} == names | {".", ".."}
        assert len(order) == ENTRIES + 2
        for index, position in positions[::-1] + positions:
            _libc.seekdir(stream, position)
            assert [next(read_on(stream)) for _ in range(100)] == order[index : index + 100]
        _libc.seekdir(stream, positions[-1][1])
        assert list(read_on(stream)) == order[positions[-1][0] :]
    finally:
        _libc.closedir(stream)

    mounted.umount()
    with kvfs.open(mounted.store) as store:
        for number in range(LEFT, ENTRIES):
            assert store.delete(f"d/{number}")
    mounted.mount()
    assert sorted(os.listdir(directory)) == sorted(str(number) for number in range(LEFT))
    subprocess.run(["rm", "-r", directory], check=True, timeout=60)
    assert os.listdir(mounted.path) == []


def test_files_past_4_gib(mounted):
    path = mounted.path / "f"
    pieces = {0: b"start", 2 * GIB - 3: b"across", 4 * GIB - 2: b"here too", 7 * GIB + 1: b"end"}
    with open(path, "wb") as file:
        for offset, piece in pieces.items():
            file.seek(offset)
            file.write(piece)
    for _ in range(2):
        assert path.stat().st_size == 7 * GIB + 4
        assert path.stat().st_blocks * 512 < MIB
        with open(path, "rb") as file:
            for offset, piece in pieces.items():
                file.seek(max(offset - 10, 0))
                assert file.read(min(offset, 10) + len(piece)) == bytes(min(offset, 10)) + piece
            file.seek(-4, os.SEEK_END)
            assert file.read() == b"\0end"
        mounted.remount()
    os.truncate(path, 4 * GIB + 1)
    with open(path, "rb") as file:
        file.seek(4 * GIB - 3)
        assert file.read() == b"\0her"


def long_path(top, length):
    """Return a path of `length` bytes below `top`, of names as long as possible."""
    path = os.fsencode(top)
    while len(path) < length:
        rest = length - len(path) - 1
        # A name is left for what remains, even if that is a single byte.
        path += b"/" + b"x" * (rest if rest <= 255 else min(255, rest - 2))
    assert len(path) == length
    return path


def test_paths_as_long_as_paths_may_be(mounted, tmp_path):
    path = long_path(mounted.path, PATH_MAX - 1)
    os.makedirs(os.path.dirname(path))
    for content in (b"1", b"22"):
        with open(path, "wb") as file:
            file.write(content)
    os.rename(path, path[:-1] + b"y")
    path = path[:-1] + b"y"
    os.link(path, mounted.path / "link")
    with pytest.raises(OSError, match="too long"):
        open(path + b"z", "rb")
    mounted.remount()
    with open(path, "rb") as file:
        assert file.read() == b"22"
    assert os.path.samefile(path, mounted.path / "link")
    found = subprocess.run(
        ["find", os.fsencode(mounted.path), "-type", "f", "-links", "2", "-name", "*y"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert found.stdout == path + b"\n"


def test_a_directory_deeper_than_a_path_can_say(binary):
    top = os.open(binary.path, os.O_RDONLY)
    try:
        fd = os.dup(top)
        for _ in range(40):
            os.mkdir(b"d" * 250, dir_fd=fd)
            below = os.open(b"d" * 250, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        file = os.open("deepest", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
        os.write(file, b"found")
        os.close(file)
        os.close(fd)
    finally:
        os.close(top)
    count = "find . -type d | wc -l"
    assert binary.run(count) == b"41\n"
    binary.remount()
    assert binary.run(count) == b"41\n"
    assert binary.run("find . -name deepest -execdir cat {} +") == b"found"
    binary.run('rm -r *; [ -z "$(ls -A)" ]')


def test_names_of_every_byte(mounted):
    every = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    names = [every, *(bytes([byte]) for byte in every if byte != ord("."))]
    for name in names:
        with open(os.path.join(os.fsencode(mounted.path), name), "wb") as file:
            file.write(name)
    for _ in range(2):
        assert sorted(os.listdir(os.fsencode(mounted.path))) == sorted(names)
        listed = mounted.run("find . -mindepth 1 -print0").split(b"\0")[:-1]
        assert sorted(listed) == sorted(b"./" + name for name in names)
        for name in names:
            with open(os.path.join(os.fsencode(mounted.path), name), "rb") as file:
                assert file.read() == name
        mounted.remount()
    mounted.run('ls -A | cat > /dev/null; rm -- * ; rm -f -- .[!.]*; [ -z "$(ls -A)" ]')


def refused(number, call, *args):
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno says it
        call(*args)
    assert caught.value.errno == number, caught.value


def test_files_without_names_are_made_the_other_way(binary):
    refused(errno.EOPNOTSUPP, os.open, binary.path, os.O_TMPFILE | os.O_RDWR)
    with tempfile.TemporaryFile(dir=binary.path) as file:
        file.write(b"x" * 3 * MIB)
        file.seek(MIB)
        assert file.read() == b"x" * 2 * MIB
        assert os.fstat(file.fileno()).st_nlink == 0
        assert os.listdir(binary.path) == []
    with tempfile.NamedTemporaryFile(dir=binary.path) as file:
        assert os.listdir(binary.path) == [os.path.basename(file.name)]
    assert os.listdir(binary.path) == []


KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32


def fallocate(fd, mode, offset, length):
    _libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if _libc.fallocate(fd, mode, offset, length):
        raise OSError(ctypes.get_errno(), "fallocate")


def test_space_is_allocated_by_writing_and_never_punched(binary):
    path = binary.path / "f"
    path.write_bytes(b"content" * 1000)
    with open(path, "r+b") as file:
        os.posix_fallocate(file.fileno(), 3000, MIB)
        assert os.fstat(file.fileno()).st_size == MIB + 3000
        for mode in (0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, COLLAPSE, ZERO, INSERT):
            refused(errno.EOPNOTSUPP, fallocate, file.fileno(), mode, 0, 4096)
    subprocess.run(["fallocate", "-x", "-l", "2M", path], check=True, timeout=60)
    binary.remount()
    assert path.read_bytes() == (b"content" * 1000).ljust(2 * MIB, b"\0")


def next_data(fd, position):
    """Return where data begins at or after `position`, or None if there is none."""
    try:
        return os.lseek(fd, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None


def test_what_seek_calls_a_hole_reads_as_zeros(mounted):
    path = mounted.path / "f"
    content = b"data".ljust(3 * MIB, b"\0") + b"more".ljust(MIB, b"\0")
    with open(path, "wb") as file:
        file.write(b"data")
        file.seek(3 * MIB)
        file.write(b"more")
        file.truncate(4 * MIB)
    for _ in range(2):
        with open(path, "rb") as file:
            position, held = 0, bytearray(len(content))
            while position < len(content):
                data = next_data(file.fileno(), position)
                if data is None:
                    break
                hole = os.lseek(file.fileno(), data, os.SEEK_HOLE)
                assert position <= data < hole <= len(content)
                held[data:hole] = os.pread(file.fileno(), hole - data, data)
                position = hole
            assert held == content
            refused(errno.ENXIO, os.lseek, file.fileno(), len(content), os.SEEK_DATA)
            refused(errno.ENXIO, os.lseek, file.fileno(), len(content), os.SEEK_HOLE)
        mounted.remount()


def test_access_control_lists_are_refused(binary):
    path = binary.path / "f"
    path.touch()
    entries = ((1, 6, -1), (2, 4, 1000), (4, 4, -1), (16, 6, -1), (32, 4, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        refused(errno.EOPNOTSUPP, os.setxattr, binary.path, name, acl)
        refused(errno.EOPNOTSUPP, os.getxattr, binary.path, name)
    refused(errno.EOPNOTSUPP, os.setxattr, path, "system.posix_acl_access", acl)
    assert os.listxattr(path) == []
    assert path.stat().st_mode & 0o777 == 0o644
