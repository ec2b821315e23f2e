"""What happens when two do it at once, or when the kernel holds a lock meanwhile."""

import json
import mmap
import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from kvfs import mounts
from kvfs.cli import access

OPEN_AND_PUT = """
import sys, kvfs
sys.stdin.readline()
try:
    with kvfs.open(sys.argv[1], wait=20) as store:
        store.put(sys.argv[2], sys.argv[2])
except kvfs.KvfsError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


def test_who_makes_one_store_at_once_shares_it(tmp_path, stores):
    for turn in range(4):
        path = tmp_path / f"new{turn}"
        command = [sys.executable, "-c", OPEN_AND_PUT, path]
        makers = [
            subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
            for n in range(3)
        ]
        for maker in makers:
            maker.stdin.write(b"go\n")
            maker.stdin.flush()
        said = [maker.communicate(timeout=60)[1] for maker in makers]
        assert [maker.returncode for maker in makers] == [0, 0, 0], said
        assert stores.cli("list", path, ok=True).stdout == b"0\n1\n2\n"


def test_a_rename_into_the_keys_aside_does_not_wait_for_itself(binary):
    (binary.path / "x").write_bytes(b"1")
    (binary.path / "sub").mkdir()
    (binary.path / "sub" / "y").write_bytes(b"2")
    aside = binary.path / ".kvfs" / "keys"
    assert not (binary.path / "new").exists()
    os.rename(binary.path / "x", aside / "new%2Fx")
    os.rename(binary.path / "sub" / "y", aside / "sub%2Fbelow%2Fy")
    assert (binary.path / "new" / "x").read_bytes() == b"1"
    assert (binary.path / "sub" / "below" / "y").read_bytes() == b"2"
    assert os.stat(binary.path).st_nlink == 4


def test_a_value_becomes_a_directory_for_those_who_know_it(binary):
    (binary.path / "a").write_bytes(b"1")
    assert (binary.path / "a").is_file()
    (binary.path / ".kvfs" / "keys" / "a%2Fb").write_bytes(b"2")
    assert (binary.path / "a" / "b").read_bytes() == b"2"
    assert (binary.path / ".kvfs" / "keys" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("turn", range(4))
def test_values_put_at_once_do_not_mix(binary, turn):
    values = [bytes([65 + n]) * size for n, size in enumerate((40_000, 90_000, 10))]
    putters = [
        threading.Thread(
            target=binary.cli, args=("put", binary.store, "k"), kwargs={"stdin": value, "ok": True}
        )
        for value in values
    ]
    for putter in putters:
        putter.start()
    for putter in putters:
        putter.join()
    assert (binary.path / "k").read_bytes() in values


def test_a_put_beside_an_unmount_reaches_the_store_or_fails(binary):
    with access.writer(str(binary.store)) as target:
        busy = subprocess.run(["umount", binary.path], check=False, capture_output=True)
        assert busy.returncode != 0
        target.put(b"k", b"v")
    binary.umount()
    assert os.listdir(binary.path) == []
    assert binary.cli("get", binary.store, "k", ok=True).stdout == b"v"


def test_a_put_after_an_unmount_does_not_land_in_the_bare_mountpoint(binary):
    mount = mounts.find(str(binary.path))
    binary.umount()
    assert access._open_root(mount) is None


def test_a_close_keeps_what_a_mapping_wrote_through_another_handle(binary):
    path = binary.path / "f"
    path.write_bytes(b"A" * 4096)
    first = os.open(path, os.O_RDWR)
    view = mmap.mmap(first, 0)
    second = os.open(path, os.O_RDWR)
    other = mmap.mmap(second, 0)
    view[0:4] = b"ZZZZ"
    view.close()
    os.close(first)
    binary.kill()
    other.close()
    with suppress(OSError):
        os.close(second)
    binary.mount()
    assert path.read_bytes() == b"ZZZZ" + b"A" * 4092


def test_fsync_of_a_directory_keeps_the_names_of_open_files(binary):
    fd = os.open(binary.path / "new", os.O_WRONLY | os.O_CREAT)
    directory = os.open(binary.path, os.O_RDONLY)
    os.fsync(directory)
    binary.kill()
    for number in (fd, directory):
        with suppress(OSError):
            os.close(number)
    binary.mount()
    assert os.listdir(binary.path) == ["new"]


def test_an_xattr_that_no_record_holds_is_refused_at_once(stores):
    small = stores.make("binary", size=4096)
    fd = os.open(small.path / "f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"data")
    with pytest.raises(OSError, match="File too large"):
        os.setxattr(fd, "user.big", bytes(6000))
    os.close(fd)
    small.remount()
    assert (small.path / "f").read_bytes() == b"data"


def test_blocks_are_those_of_the_value_as_it_is(binary):
    path = binary.path / "f"
    path.write_bytes(bytes(100_000))
    with open(path, "wb") as file:
        file.write(b"x" * 1000)
        file.flush()
        assert os.fstat(file.fileno()).st_blocks == 2
    assert os.stat(path).st_blocks == 2


def test_the_holder_is_named_by_every_refusal(binary):
    done = binary.cli("mount", binary.store, binary.path, fails=1)
    assert b"mounted already" in done.stderr
    pid = json.loads((binary.store / "lock").read_text())["pid"]
    script = "import sys, kvfs\nkvfs.open(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, binary.store], check=False, capture_output=True, text=True
    )
    assert f"in use by process {pid}" in done.stderr


@pytest.fixture
def full(stores):
    """Return a mounted store that holds `k`, on a disk without room, and what makes room."""
    disk = stores.directory / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
    mounted = stores.make("binary", name="disk")
    mounted.quiet = False
    (mounted.path / "k").write_bytes(b"old")
    (mounted.path / "open").write_bytes(b"")
    filler = disk / "filler"
    with suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return mounted, filler


def refused(path, data):
    """Write `data` to `path` until its close is refused for want of room."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, data)
    with pytest.raises(OSError, match="No space left"):
        os.close(fd)


def test_what_a_close_refused_is_nowhere_later(full, tools):
    mounted, filler = full
    refused(mounted.path / "k", b"n" * 9000)
    refused(mounted.path / "fresh", b"f" * 9000)
    tools.until(lambda: not (mounted.path / "fresh").exists())
    tools.until(lambda: (mounted.path / "k").read_bytes() == b"old")
    filler.unlink()
    mounted.umount()
    assert dict.fromkeys(mounted.cli("list", mounted.store, ok=True).stdout.split()) == {
        b"k": None,
        b"open": None,
    }
    assert mounted.cli("get", mounted.store, "k", ok=True).stdout == b"old"


def test_an_open_file_of_the_same_name_excuses_no_close(binary):
    for name in ("a", "b"):
        (binary.path / name).mkdir()
    other = os.open(binary.path / "a" / "x", os.O_WRONLY | os.O_CREAT)
    os.close(os.open(binary.path / "b" / "x", os.O_WRONLY | os.O_CREAT))
    binary.kill()
    with suppress(OSError):
        os.close(other)
    binary.mount()
    assert (binary.path / "b" / "x").exists()


def test_a_reader_hears_nothing_of_what_a_writer_was_refused(full):
    mounted, _ = full
    writing = os.open(mounted.path / "open", os.O_WRONLY)
    os.write(writing, b"x" * 9000)
    assert (mounted.path / "open").read_bytes() == b"x" * 9000
    with pytest.raises(OSError, match="No space left"):
        os.close(writing)


def test_directories_made_by_two_puts_are_shared(binary):
    with access.writer(str(binary.store)) as target:
        failures = []

        def put(thread):
            for number in range(25):
                try:
                    target.put(b"d%d/e/%d" % (number, thread), b"1")
                except OSError as error:
                    failures.append(error)

        threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(binary.cli("list", binary.store, ok=True).stdout.splitlines()) == 100


def test_a_directory_does_not_move_where_its_keys_would_be_too_long(binary):
    depth, name = 140, "n" * 250
    bottoms = []
    for top in ("A", "B"):
        (binary.path / top).mkdir()
        here = os.open(binary.path / top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        bottoms.append(here)
    root = os.open(binary.path, os.O_RDONLY)
    with pytest.raises(OSError, match="File name too long"):
        os.rename("B", "BB", src_dir_fd=root, dst_dir_fd=bottoms[0])
    for fd in (root, *bottoms):
        os.close(fd)
