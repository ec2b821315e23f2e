"""open(2), rename and renameat2 with every flag, compared with a plain directory."""

import ctypes
import errno
import os
from itertools import product

import pytest

ACCESS = {"rdonly": os.O_RDONLY, "wronly": os.O_WRONLY, "rdwr": os.O_RDWR}
FLAGS = {
    "creat": os.O_CREAT,
    "excl": os.O_EXCL,
    "trunc": os.O_TRUNC,
    "append": os.O_APPEND,
    "directory": os.O_DIRECTORY,
    "nofollow": os.O_NOFOLLOW,
}
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


def renameat2(old, new, flags):
    if _libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def make_all(top):
    """Put one of each kind of name into `top`."""
    (top / "file").write_bytes(b"content")
    (top / "directory").mkdir()
    (top / "link").symlink_to("file")
    (top / "dangling").symlink_to("target")
    (top / "to directory").symlink_to("directory")
    (top / "loop").symlink_to("loop")
    return top


TARGETS = [
    "file",
    "missing",
    "directory",
    "link",
    "dangling",
    "to directory",
    "loop",
    "file/x",
    "missing/x",
]


def outcome(do, *args):
    """Return what `do` returns, or the name of the error that it raises."""
    try:
        return do(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


def open_and_use(path, flags):
    """Open `path`, try everything on it, and return all that was seen."""
    fd = os.open(path, flags, 0o640)
    try:
        return [
            outcome(lambda: oct(os.fstat(fd).st_mode)),
            outcome(lambda: os.fstat(fd).st_nlink) if not os.path.isdir(path) else None,
            outcome(os.read, fd, 4),
            outcome(os.write, fd, b"XY"),
            outcome(os.lseek, fd, 0, os.SEEK_CUR) if not os.path.isdir(path) else None,
            outcome(os.pread, fd, 100, 0),
            outcome(os.pwrite, fd, b"Z", 1),
            outcome(os.ftruncate, fd, 5),
            outcome(os.pread, fd, 100, 0),
            os.path.isdir(path) or os.fstat(fd).st_size,
        ]
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tools):
    """Return the mountpoint of one store; each test has a directory of its own there."""
    with tools.stores_below(tmp_path_factory.mktemp("open")) as stores:
        yield stores.make().path


@pytest.fixture
def both(shared, tmp_path, request):
    """Return a directory in a mount and a plain one, to be treated alike."""
    mounted, plain = shared / request.node.name.replace("/", "_"), tmp_path / "plain"
    mounted.mkdir()
    plain.mkdir()
    return mounted, plain


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("target", TARGETS)
def test_open_acts_as_on_a_plain_directory(both, tools, access, target):
    combinations = list(product([0, 1], repeat=len(FLAGS)))
    for chosen in combinations:
        flags = ACCESS[access]
        for flag, wanted in zip(FLAGS.values(), chosen, strict=True):
            flags |= flag * wanted
        shown = [name for name, wanted in zip(FLAGS, chosen, strict=True) if wanted]
        mounted, plain = (make_all(_fresh(top, "".join(map(str, chosen)))) for top in both)
        expected = outcome(open_and_use, plain / target, flags)
        assert outcome(open_and_use, mounted / target, flags) == expected, shown
        assert tools.tree(mounted) == tools.tree(plain), shown


def _fresh(top, name):
    (top / name).mkdir()
    return top / name


RENAMED = ["file", "missing", "directory", "full", "link", "full/inner", "other"]


@pytest.mark.parametrize("flags", [0, NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE, 64])
def test_rename_acts_as_on_a_plain_directory(both, tools, flags):
    for old, new in product(RENAMED, RENAMED):
        mounted, plain = (make_all(_fresh(top, f"{old} {new}".replace("/", "_"))) for top in both)
        for top in (mounted, plain):
            (top / "full").mkdir()
            (top / "full" / "inner").mkdir()
            (top / "full" / "leaf").write_bytes(b"leaf")
            (top / "other").write_bytes(b"other")
        expected = outcome(renameat2, plain / old, plain / new, flags)
        seen = outcome(renameat2, mounted / old, mounted / new, flags)
        assert seen == expected, (old, new)
        assert tools.tree(mounted) == tools.tree(plain), (old, new)


def test_whiteout_is_refused(shared):
    # A whiteout is a device that overlay mounts put where a file was.
    (shared / "not white").write_bytes(b"1")
    with pytest.raises(OSError, match="Invalid argument"):
        renameat2(shared / "not white", shared / "white", WHITEOUT)
    assert (shared / "not white").read_bytes() == b"1"


def test_noreplace_and_exchange_do_what_they_are_for(both, tools):
    for top in both:
        make_all(top)
        (top / "other").write_bytes(b"other")
        with pytest.raises(FileExistsError):
            renameat2(top / "file", top / "other", NOREPLACE)
        renameat2(top / "other", top / "new", NOREPLACE)
        renameat2(top / "new", top / "directory", EXCHANGE)
        assert (top / "directory").read_bytes() == b"other"
        assert (top / "new").is_dir()
    assert tools.tree(both[0]) == tools.tree(both[1])


def test_removing_acts_as_on_a_plain_directory(both, tools):
    for name, do in product([*TARGETS, "full", "directory/", "link/"], (os.unlink, os.rmdir)):
        mounted, plain = (
            make_all(_fresh(top, f"{name} {do.__name__}".replace("/", "_"))) for top in both
        )
        for top in (mounted, plain):
            (top / "full").mkdir()
            (top / "full" / "leaf").write_bytes(b"leaf")
        expected = outcome(do, f"{plain}/{name}")
        assert outcome(do, f"{mounted}/{name}") == expected, (name, do)
        assert tools.tree(mounted) == tools.tree(plain), (name, do)


@pytest.mark.parametrize("do", [os.mkdir, os.mkfifo, "symlink", "link", "mknod"])
def test_making_acts_as_on_a_plain_directory(both, tools, do):
    def act(top, name):
        if do == "symlink":
            return os.symlink("file", top / name)
        if do == "link":
            return os.link(top / "file", top / name)
        if do == "mknod":
            return os.mknod(top / name, 0o100640)
        return do(top / name, 0o751)

    mounted, plain = (make_all(top) for top in both)
    for name in TARGETS:
        assert outcome(act, mounted, name) == outcome(act, plain, name), name
    assert tools.tree(mounted) == tools.tree(plain)


@pytest.mark.parametrize("length", [1, 254, 255, 256, 300])
@pytest.mark.parametrize("do", ["open", "mkdir", "stat", "rename", "symlink", "link", "unlink"])
def test_length_of_a_name(both, do, length):
    calls = {
        "open": lambda top, name: (top / name).write_bytes(b"1"),
        "mkdir": lambda top, name: (top / name).mkdir(),
        "stat": lambda top, name: (top / name).stat().st_size,
        "rename": lambda top, name: (top / "file").rename(top / name) and None,
        "symlink": lambda top, name: (top / name).symlink_to("file"),
        "link": lambda top, name: (top / name).hardlink_to(top / "file"),
        "unlink": lambda top, name: (top / name).unlink(),
    }
    mounted, plain = (make_all(top) for top in both)
    name = "n" * length
    expected = outcome(calls[do], plain, name)
    assert outcome(calls[do], mounted, name) == expected
    assert (expected == "ENAMETOOLONG") == (length > 255)
    assert sorted(os.listdir(mounted)) == sorted(os.listdir(plain))


def test_every_byte_may_be_in_a_name(both, tools):
    bytes_ = [bytes((byte,)) for byte in range(1, 256) if byte != ord("/")]
    every = b"".join(bytes_)
    names = [b"x" + byte for byte in bytes_] + [
        every[:128],
        every[128:],
        b"...",
        b"..a",
        b"%2E",
        b" ",
        b"-",
    ]
    for top in map(os.fsencode, both):
        for name in names:
            with open(os.path.join(top, name), "wb") as file:
                file.write(name)
    assert tools.tree(both[0]) == tools.tree(both[1])


class Handle(ctypes.Structure):
    """struct file_handle of name_to_handle_at(2)."""

    _fields_ = [("size", ctypes.c_uint), ("type", ctypes.c_int), ("bytes", ctypes.c_char * 128)]


def test_a_file_can_be_opened_by_its_handle(mounted):
    libc = ctypes.CDLL(None, use_errno=True)
    mounted.run("mkdir -p d/e; echo 1 > d/e/f; echo 2 > gone; sync")
    handles = {}
    for path in ("d/e/f", "d/e", "gone"):
        handles[path] = Handle(128)
        where = os.fsencode(mounted.path / path)
        arguments = (ctypes.byref(handles[path]), ctypes.byref(ctypes.c_int()), 0)
        assert libc.name_to_handle_at(-100, where, *arguments) == 0
    (mounted.path / "gone").unlink()
    mounted.remount()
    top = os.open(mounted.path, os.O_RDONLY)
    fds = [libc.open_by_handle_at(top, ctypes.byref(x), os.O_RDONLY) for x in handles.values()]
    problem = ctypes.get_errno()
    os.close(top)
    assert os.read(fds[0], 9) == b"1\n"
    assert os.listdir(fds[1]) == ["f"]
    assert (fds[2], problem) == (-1, errno.ESTALE)
    for fd in fds[:2]:
        os.close(fd)
