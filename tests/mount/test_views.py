"""The past inside the mount: `.kvfs/at`, `.kvfs/snapshots` and `.kvfs/history`."""

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

import kvfs
from kvfs.store.history import changes
from kvfs.store.snapshots import list_all

FILL = """
    echo one > a; mkdir -p d/e; echo two > d/e/f; ln a d/h; ln -s a l; mkfifo p
    chmod 640 d/e/f; truncate -s 1M sparse; echo end >> sparse
"""
CHANGE = "echo changed > a; rm -r d l p; echo new > n; chmod 600 sparse"


def last(mounted):
    """Return the sequence number of the last record."""
    return len(list(changes(str(mounted.store)))) - 1


@pytest.fixture
def filled(mounted, tools):
    """Return a mounted store of each format, the view of a moment, and how all looked then."""
    mounted.run(FILL)
    os.setxattr(mounted.path / "a", "user.note", b"kept")
    then, before = last(mounted), tools.tree(mounted.path)
    mounted.run(CHANGE)
    return mounted, mounted.path / ".kvfs" / "at" / str(then), before


@contextmanager
def raises(code):
    with pytest.raises(OSError, match=re.escape(f"[Errno {code}]")):
        yield


def test_a_view_is_the_store_as_it_was(filled, tools):
    mounted, view, before = filled
    assert tools.tree(view) == before
    assert tools.tree(mounted.path).keys() != before.keys()
    assert tools.tree(view) == before, "once more, from what the kernel has kept"
    assert os.getxattr(view / "a", "user.note") == b"kept"
    assert os.listxattr(view / "d") == []
    assert os.statvfs(view).f_blocks == os.statvfs(mounted.path).f_blocks
    with open(view / "sparse", "rb") as file:
        assert file.seek(0, os.SEEK_DATA) == 1 << 20
        assert file.seek(0, os.SEEK_HOLE) == 0
    assert os.readlink(view / "l") == "a"
    assert os.access(view / "a", os.R_OK)


def test_nothing_in_it_can_be_changed(filled):
    mounted, view, _ = filled
    live = mounted.path / "live"
    live.write_bytes(b"")
    attempts = [
        lambda: open(view / "a", "ab"),
        lambda: open(view / "a", "r+b"),
        lambda: os.open(view / "a", os.O_RDONLY | os.O_TRUNC),
        lambda: open(view / "none", "wb"),
        lambda: os.truncate(view / "a", 0),
        lambda: os.unlink(view / "a"),
        lambda: os.mkdir(view / "none"),
        lambda: os.rmdir(view / "d"),
        lambda: os.symlink("x", view / "none"),
        lambda: os.link(view / "a", view / "none"),
        lambda: os.link(live, view / "none"),
        lambda: os.rename(view / "a", view / "none"),
        lambda: os.rename(live, view / "none"),
        lambda: os.rename(view / "a", live),
        lambda: os.mkfifo(view / "none"),
        lambda: os.chmod(view / "a", 0o600),
        lambda: os.utime(view / "a"),
        lambda: os.setxattr(view / "a", "user.x", b""),
        lambda: os.removexattr(view / "a", "user.note"),
        lambda: os.mkdir(view.parent / "none"),
        lambda: os.mkdir(mounted.path / ".kvfs/history/none"),
    ]
    for attempt in attempts:
        with raises(errno.EROFS):
            attempt()
    with raises(errno.EXDEV):
        os.link(view / "a", mounted.path / "linked")
    assert not os.access(view / "a", os.W_OK)
    for name in ("at", "snapshots", "history", "keys"):
        with raises(errno.EPERM):
            os.rmdir(mounted.path / ".kvfs" / name)
    fd = os.open(view / "a", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def test_programs_copy_it(filled, tools, tmp_path):
    _, view, before = filled
    subprocess.run(["cp", "-a", view, tmp_path / "cp"], check=True)
    assert tools.tree(tmp_path / "cp") == before
    if shutil.which("rsync"):
        subprocess.run(["rsync", "-aHX", f"{view}/", tmp_path / "rsync"], check=True)
        assert tools.tree(tmp_path / "rsync") == before
    os.mkdir(tmp_path / "tar")
    subprocess.run(f"tar c . | tar x -C {tmp_path}/tar", shell=True, cwd=view, check=True)
    assert tools.tree(tmp_path / "tar") == before
    differs = ["diff", "-r", "--no-dereference", "-x", "p", tmp_path / "cp", view]
    subprocess.run(differs, check=True)
    found = subprocess.run(["find", "."], cwd=view, check=True, capture_output=True).stdout
    assert len(found.splitlines()) == len(before) + 1
    subprocess.run(["du", "-s", view, view.parent.parent.parent], check=True, capture_output=True)


def numbers(top):
    return {
        os.lstat(os.path.join(directory, name)).st_ino
        for directory, names, files in os.walk(top)
        for name in [*names, *files]
    }


def test_no_number_of_a_node_is_anothers(filled):
    mounted, view, _ = filled
    tops = [mounted.path, view, view.parent / "0", mounted.path / ".kvfs/history"]
    found = [numbers(top) for top in tops]
    assert all(found)
    assert len(set().union(*found)) == sum(map(len, found))
    assert os.stat(view / "a").st_ino == os.stat(view / "d/h").st_ino
    listed = {entry.name: entry.inode() for entry in os.scandir(view)}
    assert listed == {name: os.lstat(view / name).st_ino for name in listed}


def test_it_is_hidden(filled):
    mounted, view, _ = filled
    assert ".kvfs" not in os.listdir(mounted.path)
    names = ["at", "changes", "history", "keys", "snapshots", "stats", "tx"]
    assert sorted(os.listdir(mounted.path / ".kvfs")) == names
    shown = {entry.name: entry.inode() for entry in os.scandir(mounted.path / ".kvfs")}
    for name in names:
        found = os.stat(mounted.path / ".kvfs" / name)
        assert stat.S_ISDIR(found.st_mode) != (name in {"changes", "stats"})
        assert found.st_ino == shown[name]
    assert os.listdir(view.parent) == []
    assert ".kvfs" not in os.listdir(view)
    assert os.listdir(view.parent) == [view.name]


def test_what_is_no_moment_is_not_there(filled):
    _, view, _ = filled
    for name in ("soon", "99999", "-1", "1.5", ".hidden", "9" * 18, "none\n"):
        assert not os.path.lexists(view.parent / name)
    with raises(errno.ENAMETOOLONG):
        os.stat(view.parent / ("x" * 256))
    with raises(errno.ENOTDIR):
        os.listdir(view / "a")
    with raises(errno.ENOENT):
        os.stat(view / "none")


def test_times(mounted):
    mounted.run("echo one > a")
    at = mounted.path / ".kvfs" / "at"
    if mounted.form == "text":
        assert not (at / "1h ago").exists()
        return
    mounted.run("echo two > a")
    assert os.listdir(at / "1h ago") == []
    assert os.listdir(at / "2020-01-01") == []
    assert (at / "2100-01-01").joinpath("a").read_text() == "two\n"


def test_illegal_keys_and_those_aside_are_in_it(binary):
    with open(binary.path / ".kvfs/keys/=", "w") as file:
        file.write("no path")
    then = last(binary)
    os.unlink(binary.path / ".kvfs/keys/=")
    view = binary.path / ".kvfs/at" / str(then)
    assert os.listdir(view / ".kvfs") == ["keys"]
    assert (view / ".kvfs/keys/=").read_text() == "no path"
    with raises(errno.EROFS):
        os.unlink(view / ".kvfs/keys/=")


# -- snapshots -------------------------------------------------------------------------


def test_a_directory_is_a_snapshot(filled, tools):
    mounted, _, _ = filled
    snapshots = mounted.path / ".kvfs" / "snapshots"
    assert os.listdir(snapshots) == []
    os.mkdir(snapshots / "one")
    state = tools.tree(mounted.path)
    mounted.run("rm -r *")
    assert os.listdir(snapshots) == ["one"]
    assert [made.name for made in list_all(str(mounted.store))] == ["one"]
    assert tools.tree(snapshots / "one") == state
    assert tools.tree(snapshots.parent / "at" / "one") == state
    with raises(errno.EEXIST):
        os.mkdir(snapshots / "one")
    for name in ("17", "2026-11-28", "a b", ".x"):
        with raises(errno.EINVAL):
            os.mkdir(snapshots / name)
    os.rmdir(snapshots / "one")
    assert os.listdir(snapshots) == []
    assert not (snapshots / "one").exists()
    assert not (snapshots.parent / "at" / "one").exists()
    with raises(errno.ENOENT):
        os.rmdir(snapshots / "one")


def test_one_that_is_taken_beside_the_mount_is_there_at_once(binary):
    snapshots = binary.path / ".kvfs" / "snapshots"
    assert not (snapshots / "one").exists()
    for text in ("first", "second"):
        (binary.path / "a").write_text(text)
        binary.cli("snapshot", "create", binary.store, "one", ok=True)
        assert (snapshots / "one" / "a").read_text() == text
        binary.cli("snapshot", "delete", binary.store, "one", ok=True)
        assert not (snapshots / "one").exists()


def test_who_only_lists_snapshots_opens_none(binary):
    snapshots = binary.path / ".kvfs" / "snapshots"
    os.chmod(binary.path, 0o751)
    for name in ("one", "two"):
        os.mkdir(snapshots / name)
        (binary.path / "a").write_text(name)
    made = {found.name: found.time for found in list_all(str(binary.store))}
    for name in os.listdir(snapshots):
        found = os.stat(snapshots / name)
        assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o700, made[name])
    assert os.listdir(snapshots / "one") == []
    assert stat.S_IMODE(os.stat(snapshots / "one").st_mode) == 0o751
    assert stat.S_IMODE(os.stat(snapshots / "two").st_mode) == 0o700


def test_what_is_open_in_one_that_is_deleted_is_read_on(binary):
    (binary.path / "d").mkdir()
    (binary.path / "d" / "a").write_text("here")
    snapshots = binary.path / ".kvfs" / "snapshots"
    os.mkdir(snapshots / "one")
    directory = os.open(snapshots / "one" / "d", os.O_RDONLY)
    try:
        os.rmdir(snapshots / "one")
        with open(os.open("a", os.O_RDONLY, dir_fd=directory)) as file:
            assert file.read() == "here"
    finally:
        os.close(directory)


# -- history ---------------------------------------------------------------------------


def test_every_version_of_a_key(mounted):
    mounted.run("printf one > k; printf two > k; printf ' more' >> k; chmod 600 k; truncate -s 3 k")
    mounted.run("rm k; printf again > t; mv t k")
    logged = {change.what: change for change in changes(str(mounted.store), b"k")}
    history = mounted.path / ".kvfs" / "history" / "k"
    found = [(int(name), (history / name).read_text()) for name in os.listdir(history)]
    assert [text for _, text in found] == ["one", "two", "two more", "two", "again"]
    assert found[-1][0] == logged["rename"].sequence
    newest = os.stat(history / str(found[-1][0]))
    assert newest.st_mtime_ns == logged["rename"].time
    assert stat.S_IMODE(newest.st_mode) == 0o444
    assert stat.S_IMODE(os.stat(history / str(found[3][0])).st_mode) == 0o400
    for sequence, text in found:
        with kvfs.open(str(mounted.store), at=sequence) as store:
            assert store.get("k") == text.encode()
    with raises(errno.EROFS):
        (history / str(found[0][0])).write_text("x")
    assert not (history / "99999").exists()
    mounted.run("printf last > k")
    assert len(os.listdir(history)) == 6
    assert os.listdir(mounted.path / ".kvfs/history/t") == [str(found[-1][0] - 1)]


def test_keys_that_are_gone_have_a_history(mounted):
    mounted.run("mkdir -p d/e; echo 1 > d/e/x; echo 2 > d/y; mv d g; rm -r g")
    history = mounted.path / ".kvfs" / "history"
    assert sorted(os.listdir(history)) == ["d", "g"]
    assert sorted(os.listdir(history / "g")) == ["e", "y"]
    assert sorted(os.listdir(history / "d")) == ["e", "y"]
    for key in ("d/e/x", "g/e/x"):
        (name,) = os.listdir(history / key)
        assert (history / key / name).read_text() == "1\n"
    assert not (history / "none").exists()
    assert not (history / "d/none").exists()


def test_a_name_that_is_a_number_stands_back(binary):
    """A version comes before a key of the same name, which is found with a + before it."""
    with kvfs.open(str(binary.store) + "2") as store:
        for key in ("x", "a", "a/1", "a/7", "a/+7", "a/7/b"):
            store.put(key, f"value of {key}")
    binary.umount()
    shutil.rmtree(binary.store)
    os.rename(str(binary.store) + "2", binary.store)
    binary.mount()
    history = binary.path / ".kvfs" / "history" / "a"
    assert os.listdir(history) == ["1", "++7", "+1", "7"]
    assert (history / "1").read_text() == "value of a"
    assert (history / "+1/2").read_text() == "value of a/1"
    assert (history / "7/3").read_text() == "value of a/7"
    assert (history / "+7/3").read_text() == "value of a/7"
    assert (history / "++7/4").read_text() == "value of a/+7"
    assert (history / "7/b/5").read_text() == "value of a/7/b"


def test_a_long_value_has_one_version_and_a_long_history_is_read(binary):
    for number in range(300):
        with open(binary.path / "grows", "ab") as file:
            file.write(b"%d\n" % number)
    history = binary.path / ".kvfs" / "history"
    names = os.listdir(history / "grows")
    texts = [(history / "grows" / name).read_bytes() for name in names]
    assert texts == [b"".join(b"%d\n" % n for n in range(end + 1)) for end in range(300)]
    binary.cli("put", binary.store, "long", stdin=b"x" * (3 << 20), ok=True)
    sizes = [os.stat(history / "long" / name).st_size for name in os.listdir(history / "long")]
    assert sizes[-1] == 3 << 20


# -- the daemon ------------------------------------------------------------------------


def test_many_views_and_many_who_look_at_once(binary):
    """More than are open at a time; each finds its own."""
    for number in range(20):
        (binary.path / "a").write_text(str(number))
    numbers = [c.sequence for c in changes(str(binary.store), b"a") if c.what == "put"]
    at = binary.path / ".kvfs" / "at"
    found, barrier = {}, threading.Barrier(10)

    def look(start):
        barrier.wait()
        for number in range(start, 20, 5):
            text = (at / str(numbers[number]) / "a").read_text()
            found.setdefault(number, set()).add(text)

    threads = [threading.Thread(target=look, args=(start % 5,)) for start in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {str(number)} for number in range(20)}
    assert len(os.listdir(at)) <= 8
    again = [(at / str(sequence) / "a").read_text() for sequence in numbers]
    assert again == [str(number) for number in range(20)], "with nodes that the kernel knows"


def test_the_mount_ends_while_views_are_used(binary):
    (binary.path / "a").write_text("1")
    view = binary.path / ".kvfs/at/0"
    with open(view / "a"):
        subprocess.run(["umount", "-l", binary.path], check=True)
    assert binary.daemon.ended(20)
    binary.mount()
    assert (view / "a").read_text() == "1"


def test_a_damaged_place_gives_eio(stores):
    mounted = stores.make("binary")
    mounted.quiet = False
    mounted.run("echo fine > a; echo broken > b; echo later > c")
    mounted.umount()
    segment = next((mounted.store / "segments").iterdir())
    data = bytearray(segment.read_bytes())
    mounted.mount()
    data[data.index(b"broken")] ^= 1
    segment.write_bytes(data)
    at = mounted.path / ".kvfs" / "at"
    with raises(errno.EIO):
        os.listdir(at / "2")
    with raises(errno.EIO):
        os.listdir(mounted.path / ".kvfs/history")


@pytest.mark.parametrize("options", [("--read-only",), ("--at", "1")])
def test_a_mount_for_reading_has_its_past_and_no_more(stores, options):
    mounted = stores.make("binary", mount=False)
    with kvfs.open(str(mounted.store)) as store:
        for text in ("1", "2", "3"):
            store.put("a", text)
    mounted.cli("mount", *options, mounted.store, mounted.path, ok=True)
    try:
        kvfs_directory = mounted.path / ".kvfs"
        assert (kvfs_directory / "at/0/a").read_text() == "1"
        assert (kvfs_directory / "at/2").exists() is (options == ("--read-only",))
        known = os.listdir(kvfs_directory / "history/a")
        assert known == (["0", "1", "2"] if options == ("--read-only",) else ["0", "1"])
        with raises(errno.EROFS):
            os.mkdir(kvfs_directory / "snapshots/one")
    finally:
        mounted.cli("unmount", mounted.path, ok=True)


def test_others_are_kept_out_of_what_was_private(stores):
    if os.geteuid():
        pytest.skip("needs root, to be somebody else")
    mounted = stores.make("binary", options=("-o", "allow_other"))
    mounted.run("mkdir -m 700 d; echo x > d/s; umask 077; echo secret > s")
    assert stat.S_IMODE(os.stat(mounted.path / "d/s").st_mode) == 0o644
    os.chmod(mounted.store.parent, 0o755)
    for directory in mounted.path.parents:
        if directory.is_relative_to("/tmp/pytest-of-root"):
            os.chmod(directory, 0o755)
    mounted.run("chmod 755 .; mkdir .kvfs/snapshots/one")
    tests = "; ".join(
        f"cat {path} 2>/dev/null && echo leaked {path}"
        for path in (
            f".kvfs/at/{last(mounted)}/s",
            f".kvfs/at/{last(mounted)}/d/s",
            ".kvfs/history/d/s/*",
            ".kvfs/snapshots/one/s",
        )
    )
    script = f"import os; os.setgid(65534); os.setuid(65534); os.system({tests + '; true'!r})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=mounted.path, check=True, capture_output=True
    )
    assert done.stdout == b""
