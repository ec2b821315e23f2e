"""Unmounting what is in use, and mounting it again: with what a new version would come, nothing is lost."""

import os
import subprocess
import sys

import pytest


def test_who_is_in_the_way_is_named(binary):
    """An open file, a working directory, and a mapping without a descriptor."""
    (binary.path / "file").write_bytes(b"x" * 4096)
    script = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    mapped = mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ)
print("ready", flush=True)
sys.stdin.read()
"""
    keep = "echo ready; read line"
    ways = [
        (["bash", "-c", f"exec 5< {binary.path}/file; {keep}"], "/"),
        (["bash", "-c", keep], binary.path),
        ([sys.executable, "-c", script, binary.path / "file"], "/"),
    ]
    for command, directory in ways:
        with subprocess.Popen(
            command, cwd=directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as user:
            assert user.stdout.readline() == b"ready\n"
            said = binary.cli("unmount", binary.path, fails=1).stderr.decode()
            assert f"({user.pid})" in said
            assert f"kvfs unmount --lazy {binary.path}" in said
            assert str(os.getpid()) not in said.replace(str(binary.path), "")
            user.stdin.close()
    binary.cli("unmount", binary.path, ok=True)
    assert binary.daemon.ended(20)


def test_a_lazy_unmount_leaves_open_files_to_their_end(mounted):
    with open(mounted.path / "held", "wb", buffering=0) as held:
        held.write(b"before ")
        mounted.cli("unmount", "--lazy", mounted.path, ok=True)
        assert os.listdir(mounted.path) == []
        assert mounted.cli("status", mounted.path, fails=1)
        held.write(b"after")
        assert not mounted.daemon.ended()
    assert mounted.daemon.ended(20)
    mounted.mount()
    assert (mounted.path / "held").read_bytes() == b"before after"


def test_a_mount_at_once_waits_for_files_that_are_open_and_loses_nothing(mounted, stores, tools):
    """As at an upgrade: a lazy unmount, and the next mount before the last file is closed."""
    command = [sys.executable, "-m", "kvfs", "mount", mounted.store, mounted.path]
    old = mounted.daemon
    with open(mounted.path / "held", "wb", buffering=0) as held:
        held.write(b"1")
        mounted.cli("unmount", "--lazy", mounted.path, ok=True)
        with subprocess.Popen(command, stderr=subprocess.PIPE) as mounting:
            said = mounting.stderr.readline().decode()
            assert said.startswith(f"kvfs: waiting for process {old.pid}")
            held.write(b"2")
            os.fsync(held.fileno())
            assert mounting.poll() is None
            held.write(b"3")
            held.close()
            assert mounting.wait(30) == 0
    assert old.ended(20)
    mounted.daemon = stores.adopt(mounted.store)
    assert mounted.daemon.pid != old.pid
    assert (mounted.path / "held").read_bytes() == b"123"


def test_a_lazy_unmount_of_what_hangs_or_is_gone(binary):
    binary.kill()
    binary.cli("unmount", "--lazy", binary.path, ok=True)
    assert not os.path.ismount(binary.path)
    assert b"no kvfs store" in binary.cli("unmount", "--lazy", binary.path, fails=1).stderr


def test_three_stores_at_once_have_a_daemon_each(stores):
    """The end of one, whichever way, is nothing to the others."""
    made = [stores.make(name=f"n{number}") for number in range(3)]
    assert len({one.daemon.pid for one in made}) == 3
    for number, one in enumerate(made):
        (one.path / "name").write_bytes(b"%d" % number)
    os.link(made[0].path / "name", made[0].path / "again")
    with pytest.raises(OSError, match="cross-device"):
        os.rename(made[0].path / "name", made[1].path / "other")
    made[0].umount()
    made[1].kill()
    assert (made[2].path / "name").read_bytes() == b"2"
    assert os.listdir(made[0].path) == []
    for one in made[:2]:
        one.mount()
    assert [(one.path / "name").read_bytes() for one in made] == [b"0", b"1", b"2"]
