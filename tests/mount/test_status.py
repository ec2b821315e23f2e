"""`kvfs status`: which stores are mounted, and how they are."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import pytest


def status(made, what=None, **kwargs):
    """Return the exit status, and what is said of each mountpoint below the test's directory."""
    words = ["status", "--json", *([what] if what else [])]
    done = made.cli(*words, **kwargs)
    assert done.stderr == b""
    below = str(made.path.parent.parent)
    mounts = json.loads(done.stdout)["mounts"]
    found = {m["mountpoint"]: m for m in mounts if m["mountpoint"].startswith(below)}
    return done.returncode, found


def test_what_is_said_of_a_live_mount(mounted):
    mounted.cli("put", mounted.store, "a", "1", ok=True)
    code, found = status(mounted)
    one = found[str(mounted.path)]
    assert code == 0
    assert one["since"] > 1_700_000_000 * 10**9
    del one["since"]
    assert one == {
        "mountpoint": str(mounted.path),
        "store": str(mounted.store),
        "state": "alive",
        "read_only": False,
        "pid": mounted.daemon.pid,
        "version": one["version"],
        "format": mounted.form,
        "records": mounted.records(),
        "bytes": len(mounted.segments()),
        "at": None,
        "durability": "fsync",
        "failure": None,
    }
    table = mounted.cli("status", ok=True).stdout
    assert b"alive" in table
    for what in (mounted.store, mounted.path):
        shown = mounted.cli("status", what, ok=True).stdout.decode()
        assert f"process:    {mounted.daemon.pid}\n" in shown
        assert "state:      alive\n" in shown
        assert status(mounted, what)[0] == 0


def test_by_other_names(stores):
    made = stores.make()
    (stores.directory / "s").symlink_to(made.store)
    (stores.directory / "m").symlink_to(made.path)
    for what in ("s", "m", "mnt/../store", "./mnt/"):
        assert status(made, what, cwd=stores.directory) == status(made, str(made.path))


def test_what_is_not_mounted(stores):
    made = stores.make(mount=False)
    for what in (made.store, made.path, stores.directory / "none"):
        assert b"is not mounted" in made.cli("status", what, fails=1).stderr
        assert status(made, what) == (1, {})
    assert made.cli("status").returncode == 0


def test_mounts_that_only_read_are_told_apart(stores):
    """Several of one store, beside each other and beside one that writes."""
    made = stores.make()
    for value in ("old", "new"):
        made.cli("put", made.store, "a", value, ok=True)
    options = {"one": ["--read-only"], "two": ["-o", "ro"], "then": ["--at", "0"]}
    for name, words in options.items():
        (stores.directory / name).mkdir()
        made.cli("mount", *words, made.store, stores.directory / name, ok=True)
    try:
        code, found = status(made, made.store)
        assert code == 0
        assert {os.path.basename(path): (m["read_only"], m["at"]) for path, m in found.items()} == {
            "mnt": (False, None),
            "one": (True, None),
            "two": (True, None),
            "then": (True, "0"),
        }
        assert len({m["pid"] for m in found.values()}) == 4
        assert all(m["state"] == "alive" for m in found.values())
    finally:
        for name in options:
            made.cli("unmount", stores.directory / name, ok=True)


def test_a_daemon_that_is_gone(binary):
    binary.kill()
    for what in (binary.path, binary.store):
        code, found = status(binary, what)
        assert (code, found[str(binary.path)]["state"]) == (1, "stale")
        assert found[str(binary.path)]["pid"] is None
    assert b"stale" in binary.cli("status", binary.path).stdout


@pytest.mark.parametrize("read_only", [False, True])
def test_a_daemon_that_hangs_hangs_nobody(stores, read_only):
    made = stores.make(name="hanging")
    beside = stores.make(name="beside")
    pid = made.daemon.pid
    if read_only:
        made.umount()
        made.cli("mount", "--read-only", made.store, made.path, ok=True)
        pid = status(made, made.path)[1][str(made.path)]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        code, found = status(made)
        assert code == 0
        states = {path: m["state"] for path, m in found.items()}
        assert states == {str(made.path): "not answering", str(beside.path): "alive"}
        code, found = status(made, made.path)
        assert (code, found[str(made.path)]["state"]) == (1, "not answering")
        if not read_only:
            assert found[str(made.path)]["pid"] == pid
            done = made.cli("stat", made.store, "--json", ok=True)
            assert json.loads(done.stdout)["mount"] is None
            done = made.cli("top", "--once", made.store)
            assert (done.returncode, b"does not answer" in done.stderr) == (1, True)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert status(made, made.path)[0] == 0
    made.cli("unmount", made.path, ok=True)


@pytest.mark.parametrize("verb", ["mount", "unmount"])
def test_who_waits_for_a_daemon_that_hangs_is_told_and_can_interrupt_that(stores, verb):
    made = stores.make()
    words = [sys.executable, "-m", "kvfs", verb, *([made.store] if verb == "mount" else [])]
    os.kill(made.daemon.pid, signal.SIGSTOP)
    try:
        with subprocess.Popen([*words, made.path], stderr=subprocess.PIPE) as waiting:
            try:
                assert b"kvfs unmount --lazy" in waiting.stderr.readline()
                waiting.send_signal(signal.SIGINT)
                assert waiting.wait(20) == 130
            finally:
                waiting.kill()
    finally:
        os.kill(made.daemon.pid, signal.SIGCONT)
    assert status(made, made.path)[0] == 0


def test_a_mount_without_its_socket_is_alive_all_the_same(binary):
    (binary.store / "control").unlink()
    code, found = status(binary, binary.path)
    assert (code, found[str(binary.path)]["state"]) == (0, "alive")
    assert found[str(binary.path)]["pid"] == binary.daemon.pid


def test_a_daemon_that_was_out_of_descriptors_answers_again(binary):
    pid = binary.daemon.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    place = os.open(binary.store, os.O_RDONLY)
    try:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, limits[1]))
        for _ in range(2):  # the kernel had a descriptor for the first one ready
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(f"/proc/self/fd/{place}/control")
        time.sleep(0.1)
    finally:
        os.close(place)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert status(binary, binary.path)[1][str(binary.path)]["pid"] == pid
    assert status(binary, binary.path)[1][str(binary.path)]["records"] is not None


def test_requests_of_other_versions(binary):
    """What is not understood is said to be so, and what older ones ask is answered."""

    def ask(line):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(f"/proc/self/fd/{place}/control")
            connection.sendall(line + b"\n")
            return [json.loads(line) for line in connection.makefile("rb")]

    place = os.open(binary.store, os.O_RDONLY)
    try:
        assert ask(b'{"compact": null}')[-1] == {"problem": None}
        for wrong in (b'{"later": 1}', b"{}", b"[]", b"1", b'{"compact": null, "status": null}'):
            assert "not understood" in ask(wrong)[-1]["problem"]
        assert list(ask(b'{"status": null}')[-1]) == ["status"]
    finally:
        os.close(place)


def test_others_than_the_user_are_not_answered(stores):
    """They are told so at once: nothing that they might say is waited for, or kept."""
    made = stores.make(mount=False)
    made.cli("put", made.store, "a", "1", ok=True)
    made.cli("mount", "--read-only", made.store, made.path, ok=True)
    try:
        device = os.stat(made.path).st_dev
        os.seteuid(65534)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(20)
                connection.connect(f"\0kvfs-{os.major(device)}:{os.minor(device)}")
                answer = json.loads(connection.makefile("rb").read())
            assert list(answer) == ["problem"]
        finally:
            os.seteuid(0)
    finally:
        made.cli("unmount", made.path, ok=True)
