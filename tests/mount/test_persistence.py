"""What is there again after a mount ends: by umount, by a signal, or by the death of the daemon."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

KINDS = [
    "mkdir -p a/b/c; seq 100 > a/f; echo 1 > a/b/g; : > empty; chmod 4751 a/f; chmod 2700 a/b; chmod 000 empty",
    "chown 12:34 a/f; chown 56 a/b; ln a/f a/b/hard; ln -s ../f a/b/soft; ln -s nowhere broken; mkfifo -m 600 fifo; mknod -m 620 null c 1 3",
    "head -c 700000 /dev/zero > zeros; head -c 2000000 /dev/urandom > random; truncate -s 5M hole; echo x >> random; echo x >> hole",
    "echo old > replaced; echo new > replaced; echo 1 > gone; rm gone; mkdir gone-too; rmdir gone-too; echo 1 > from; mv from to",
    "mkdir x; echo 1 > x/1; mv x y; echo 2 > y/2; rm y/1; echo 3 > a/f2; mv a/f2 y/2; mkdir -p deep/er; mv deep/er y/er; chmod 711 y/er",
    "printf '1|2\\n' > 'a|b'; touch $'new\\nline' $'\\xff' '%'; printf 12345 > cut; truncate -s 3 cut; truncate -s 8 cut",
    "touch -d '2001-02-03 04:05:06.789123456' a/f y; touch -a -d @5 cut; touch -m -d @-7.25 y/2; touch -h -d @9 broken",
]
CREATE = os.O_CREAT | os.O_RDWR
GONE = "not connected|connection abort|Input/output error"


def fill(mounted):
    """Make one of everything, and attributes that only Python can set."""
    for script in KINDS:
        mounted.run(script)
    for path in ("a", "a/f", "empty"):
        os.setxattr(mounted.path / path, "user.name", path.encode())
        os.setxattr(mounted.path / path, "user.removed", b"1")
        os.removexattr(mounted.path / path, "user.removed")
    os.setxattr(mounted.path / "a" / "f", "user.bytes", bytes(range(256)))


def details(mounted, *, read=True):
    """Return what `tree` leaves out: inode numbers, devices, xattrs, and the times if they are kept.

    Without `read`, the access times are left out, which a kill may undo.
    """
    found = {}
    for directory, names, files in os.walk(os.fsencode(mounted.path)):
        for name in [".", *names, *files]:
            path = os.path.join(directory, os.fsencode(name))
            info = os.lstat(path)
            times = (info.st_mtime_ns, info.st_ctime_ns, info.st_blocks)
            times += (info.st_atime_ns,) if read else ()
            names_ = os.listxattr(path, follow_symlinks=False)
            found[path] = (
                info.st_ino,
                info.st_rdev,
                info.st_size,
                times if mounted.form == "binary" else None,
                {x: os.getxattr(path, x, follow_symlinks=False) for x in sorted(names_)},
            )
    return found


def umount(mounted):
    mounted.umount()


def fusermount(mounted):
    subprocess.run(["fusermount3", "-u", str(mounted.path)], check=True, timeout=20)
    assert mounted.daemon.ended(20)


def unmount(mounted):
    mounted.cli("unmount", mounted.path, ok=True)
    assert mounted.daemon.ended(20)


def terminate(mounted):
    mounted.daemon.send(signal.SIGTERM)
    assert mounted.daemon.ended(20)


def interrupt(mounted):
    mounted.daemon.send(signal.SIGINT)
    assert mounted.daemon.ended(20)


def hang_up(mounted):
    mounted.daemon.send(signal.SIGHUP)
    assert mounted.daemon.ended(20)


def kill(mounted):
    mounted.kill()


CLEAN = [umount, fusermount, unmount, terminate, interrupt, hang_up]


@pytest.mark.parametrize("form", ["binary", "text"])
@pytest.mark.parametrize("end", [umount, kill, terminate])
def test_everything_is_back(stores, tools, form, end):
    mounted = stores.make(form)
    fill(mounted)
    read = end is not kill
    before = tools.tree(mounted.path), details(mounted, read=read)
    end(mounted)
    mounted.mount()
    assert tools.tree(mounted.path) == before[0]
    assert details(mounted, read=read) == before[1]
    mounted.remount()
    assert (tools.tree(mounted.path), details(mounted, read=read)) == before


def test_everything_is_back_from_tiny_segments(stores, tools):
    mounted = stores.make("binary", size="4KiB")
    for script in KINDS[:2] + KINDS[3:5]:
        mounted.run(script)
    (mounted.path / "large").write_bytes(os.urandom(50_000))
    before = tools.tree(mounted.path), details(mounted, read=False)
    assert len(os.listdir(mounted.store / "segments")) > 10
    mounted.kill()
    mounted.mount()
    assert (tools.tree(mounted.path), details(mounted, read=False)) == before


def test_inode_numbers_are_never_used_again(mounted):
    def number(name):
        (mounted.path / name).touch()
        return (mounted.path / name).stat().st_ino

    seen = [number("a"), number("b")]
    (mounted.path / "b").unlink()
    mounted.remount()
    seen.append(number("c"))
    (mounted.path / "c").unlink()
    mounted.kill()
    mounted.mount()
    seen.append(number("d"))
    with open(mounted.path / "never logged", "wb") as file:
        seen.append(os.fstat(file.fileno()).st_ino)
        os.unlink(file.name)
    seen.append(number("e"))
    assert len(set(seen)) == len(seen)
    inode = (mounted.path / "e").stat().st_ino
    mounted.remount()
    assert (mounted.path / "e").stat().st_ino == inode
    assert (mounted.path / "a").stat().st_ino == seen[0]


@pytest.mark.parametrize("end", CLEAN)
def test_the_daemon_ends_cleanly(stores, tools, end):
    mounted = stores.make()
    mounted.run("echo 1 > a")
    holder = mounted.holder()
    assert holder.pop("started") > 0
    assert holder == {
        "pid": mounted.daemon.pid,
        "mountpoint": str(mounted.path),
        "mounted": True,
    }
    end(mounted)
    assert tools.mounts_below(stores.directory) == []
    assert mounted.holder() is None
    assert os.listdir(mounted.path) == []
    mounted.cli("put", mounted.store, "b", "2", ok=True)
    assert mounted.cli("get", mounted.store, "a", ok=True).stdout == b"1\n"
    mounted.mount()
    assert mounted.run("cat a b") == b"1\n2"


@pytest.mark.parametrize("size", [3, 3_000_000])
@pytest.mark.parametrize("end", [terminate, interrupt])
def test_an_open_file_keeps_what_was_written_before_a_signal(mounted, end, size):
    data = os.urandom(size)
    fds = [os.open(mounted.path / name, CREATE) for name in ("new", "old")]
    (mounted.path / "old").write_bytes(b"12345")
    os.write(fds[0], data)
    os.pwrite(fds[1], data, 5)
    end(mounted)
    for fd in fds:
        with pytest.raises(OSError, match=GONE):
            os.write(fd, b"more")
        with suppress(OSError):
            os.close(fd)
    mounted.mount()
    assert (mounted.path / "new").read_bytes() == data
    assert (mounted.path / "old").read_bytes() == b"12345" + data


def test_the_death_of_the_daemon_loses_only_what_is_not_closed(mounted):
    (mounted.path / "old").write_bytes(b"old")
    (mounted.path / "closed").write_bytes(b"closed")
    fd = os.open(mounted.path / "old", os.O_RDWR | os.O_TRUNC)
    os.write(fd, b"half of a new val")
    synced = os.open(mounted.path / "synced", CREATE)
    os.write(synced, b"synced")
    os.fsync(synced)
    os.write(synced, b" and not")
    mounted.kill()
    mounted.mount()
    found = {path.name: path.read_bytes() for path in mounted.path.iterdir()}
    assert found == {"old": b"old", "closed": b"closed", "synced": b"synced"}
    for stale in (fd, synced):
        with pytest.raises(OSError, match="not connected"):
            os.close(stale)


def test_a_stale_mountpoint_says_so_and_is_taken_over(mounted, tools):
    mounted.run("echo 1 > a")
    mounted.kill()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(mounted.path)
    for _ in range(2):
        mounted.mount()
        assert mounted.run("cat a; echo 1 > a") == b"1\n"
        mounted.kill()
    assert len(tools.mounts_below(mounted.path)) == 1
    mounted.cli("unmount", mounted.path, ok=True)
    assert tools.mounts_below(mounted.path) == []
    assert os.listdir(mounted.path) == []


def test_a_lazy_umount_ends_the_daemon_once_the_last_user_is_gone(mounted):
    with open(mounted.path / "a", "wb", buffering=0) as file:
        subprocess.run(["umount", "-l", mounted.path], check=True, timeout=20)
        file.write(b"written after")
        assert not mounted.daemon.ended(0.2)
    assert mounted.daemon.ended(20)
    mounted.mount()
    assert (mounted.path / "a").read_bytes() == b"written after"


def test_a_busy_mount_is_not_ended(mounted):
    with open(mounted.path / "a", "wb", buffering=0) as file:
        busy = mounted.cli("unmount", mounted.path, fails=1)
        assert b"busy" in busy.stderr
        file.write(b"still here")
    assert not mounted.daemon.ended()
    assert (mounted.path / "a").read_bytes() == b"still here"


def test_remounts_in_immediate_succession_wait_for_the_old_daemon(stores):
    mounted = stores.make()
    for turn in range(4):
        path = mounted.path / f"f{turn}"
        path.write_bytes(os.urandom(4_000_000))
        subprocess.run(["umount", mounted.path], check=True, timeout=20)
        mounted.mount()
        assert len(os.listdir(mounted.path)) == turn + 1


def test_a_mount_waits_for_a_daemon_that_is_slow_to_end(stores):
    mounted = stores.make()
    mounted.run("echo 1 > a")
    old = mounted.daemon
    old.send(signal.SIGSTOP)
    subprocess.run(["umount", "-l", mounted.path], check=True, timeout=20)
    command = [sys.executable, "-m", "kvfs", "mount", mounted.store, mounted.path]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.7)
        old.send(signal.SIGCONT)
        assert waiting.wait(20) == 0, waiting.stderr.read()
    assert old.ended()
    mounted.daemon = stores.adopt(mounted.store)
    assert mounted.run("cat a") == b"1\n"


def test_a_read_only_mount_changes_nothing(mounted):
    mounted.run("echo 1 > a")
    mounted.umount()
    before = mounted.segments()
    for options in (["--read-only"], ["-o", "ro"]):
        mounted.cli("mount", *options, mounted.store, mounted.path, ok=True)
        assert (
            mounted.run(
                "cat a; (echo 2 > a) 2>&1 | grep -o Read-only; (mkdir d) 2>&1 | grep -o Read-only"
            )
            == b"1\n" + b"Read-only\n" * 2
        )
        mounted.cli("unmount", mounted.path, ok=True)
    assert mounted.segments() == before


def test_durability_always_syncs_every_close(stores):
    mounted = stores.make(mount=False).mount("--durability", "always")
    for number in range(5):
        (mounted.path / f"f{number}").write_bytes(b"1")
    assert mounted.records() == 5
    mounted.kill()
    mounted.mount()
    assert len(os.listdir(mounted.path)) == 5


def test_a_torn_tail_is_cut_and_kept(mounted):
    mounted.run("echo 1 > a; echo 2 > b")
    mounted.kill()
    last = max((mounted.store / "segments").iterdir())
    whole = last.read_bytes()
    last.write_bytes(whole[:-2])
    mounted.mount()
    assert os.listdir(mounted.path) == ["a"]
    kept = [file.read_bytes() for file in (mounted.store / "quarantine").iterdir()]
    assert len(kept) == 1
    assert kept[0]
    assert whole.endswith(kept[0] + whole[-2:])
    mounted.run("echo 3 > b; cat b")


def test_the_lock_file_names_the_daemon(mounted):
    assert json.loads((mounted.store / "lock").read_bytes())["pid"] == mounted.daemon.pid
    done = mounted.cli("mount", mounted.store, mounted.store.parent / "other", fails=1)
    assert b"other does not exist" in done.stderr
    (mounted.store.parent / "other").mkdir()
    done = mounted.cli("mount", mounted.store, mounted.store.parent / "other", fails=1)
    assert b"process %d" % mounted.daemon.pid in done.stderr
    assert os.fsencode(mounted.path) in done.stderr
