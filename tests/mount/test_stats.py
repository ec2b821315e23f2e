"""Seeing inside a mount: `.kvfs/stats`, the control socket, metrics, `kvfs stat` and `kvfs top`."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families as parsed

from kvfs.control import ask_for_stats
from kvfs.figures import from_text

PATIENCE = 30.0


def stats(mounted):
    return from_text((mounted.path / ".kvfs" / "stats").read_text())


def test_the_file_is_listed_and_can_only_be_read(mounted):
    directory = mounted.path / ".kvfs"
    assert "stats" in os.listdir(directory)
    kinds = {entry.name: entry.is_file() for entry in os.scandir(directory)}
    assert kinds["stats"]
    info = os.lstat(directory / "stats")
    assert (oct(info.st_mode), info.st_size, info.st_nlink) == ("0o100444", 0, 1)
    for do, why in (
        (lambda path: os.open(path, os.O_WRONLY), "Read-only"),
        (lambda path: os.truncate(path, 0), "Read-only"),
        (lambda path: os.chmod(path, 0o600), "Read-only"),
        (lambda path: os.rename(path, mounted.path / "x"), "not permitted"),
        (os.unlink, "not permitted"),
    ):
        with pytest.raises(OSError, match=why):
            do(directory / "stats")
    for do in (os.listdir, lambda path: os.lstat(path / "below")):
        with pytest.raises(NotADirectoryError):
            do(directory / "stats")


def test_the_file_counts_what_was_done(mounted):
    before = stats(mounted)
    for number in range(5):
        (mounted.path / f"f{number}").write_bytes(b"x" * 100)
    for number in range(5):
        assert (mounted.path / f"f{number}").read_bytes() == b"x" * 100
    fd = os.open(mounted.path / "f0", os.O_RDWR)
    os.fsync(fd)
    with pytest.raises(OSError, match="No data"):
        os.getxattr(fd, "user.none")
    os.close(fd)
    now = stats(mounted)
    assert (
        now["requests"]["create"]["count"] - before["requests"].get("create", {"count": 0})["count"]
        == 5
    )
    assert sum(now["requests"]["create"]["buckets"]) == 5
    assert now["data"]["written_bytes"] - before["data"]["written_bytes"] == 500
    assert now["data"]["read_bytes"] - before["data"]["read_bytes"] >= 500
    assert now["log"]["appended"] - before["log"]["appended"] >= 5
    assert now["log"]["appended_bytes"] > before["log"]["appended_bytes"]
    assert now["store"]["keys"] == 5
    assert now["log"]["bytes"] == len(mounted.segments())
    assert now["log"]["synced"] >= 5
    assert now["sync"]["count"] > before["sync"]["count"]
    assert time.time() - 100 < now["sync"]["last"] <= time.time()
    assert now["errors"]["ENODATA"] >= 1
    assert now["requests"]["fsync"]["count"] == 1
    assert sum(now["wait"][how] for how in ("polled", "shared", "slept")) >= 20
    assert now["mount"]["mountpoint"] == str(mounted.path)
    assert now["mount"]["pid"] == mounted.daemon.pid


def test_the_reads_of_one_open_are_consistent(binary):
    with open(binary.path / ".kvfs" / "stats", "rb", buffering=0) as file:
        head = file.read(100)
        for number in range(20):
            (binary.path / f"f{number}").write_bytes(b"x")
        rest = b""
        while piece := file.read(97):
            rest += piece
        assert os.pread(file.fileno(), 100, 0) == head
    figures = from_text((head + rest).decode())
    assert figures["store"]["keys"] == 0
    assert stats(binary)["store"]["keys"] == 20


def test_the_cache_of_records_is_counted(binary):
    (binary.path / "f").write_bytes(b"x" * 100)
    os.setxattr(binary.path / "f", "user.a", b"1")
    binary.remount()
    before = stats(binary)
    fd = os.open(binary.path / "f", os.O_RDONLY)
    assert os.read(fd, 200) == b"x" * 100
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 200, 0) == b"x" * 100
    os.close(fd)
    now = stats(binary)
    hits = now["cache"]["hits"] - before["cache"]["hits"]
    misses = now["cache"]["misses"] - before["cache"]["misses"]
    assert (hits, misses) == (1, 1)


def test_compaction_is_counted(binary):
    for turn in range(3):
        for number in range(20):
            (binary.path / f"f{number}").write_bytes(b"%d %d " % (turn, number) * 5000)
    binary.cli("compact", "--keep-history", "0", binary.store, ok=True)
    now = stats(binary)
    assert now["checkpoints"]["made"] >= 1
    assert now["compaction"]["removed_segments"] >= 1
    assert now["compaction"]["moved_bytes"] > 0
    live = json.loads(binary.cli("stat", "--json", binary.store, ok=True).stdout)["live"]
    assert live / 2 < now["log"]["live_bytes"] <= live * 1.5


def test_the_control_socket_tells_the_same(binary):
    (binary.path / "f").write_bytes(b"x")
    asked, shown = ask_for_stats(str(binary.store)), stats(binary)
    assert asked["store"] == shown["store"]
    assert asked.keys() == shown.keys()
    with socket.socket(socket.AF_UNIX) as connection:
        os.chdir(binary.store)
        try:
            connection.connect("control")
        finally:
            os.chdir("/")
        connection.sendall(b'{"nonsense": 1}\n')
        with connection.makefile("r") as stream:
            assert "was not understood" in json.loads(stream.readline())["problem"]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def test_metrics_are_served_as_long_as_the_mount_is_there(stores):
    port = free_port()
    mounted = stores.make("binary", options=("--metrics", str(port)))
    for number in range(200):
        (mounted.path / f"f{number}").write_bytes(b"x")
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        page = answer.read().decode()
    samples = {
        (sample.name, sample.labels.get("op"), sample.labels.get("le")): sample.value
        for family in parsed(page)
        for sample in family.samples
    }
    assert samples["kvfs_requests_total", "create", None] == 200
    assert samples["kvfs_request_duration_seconds_count", "create", None] == 200
    assert samples["kvfs_keys", None, None] == 200
    other = stores.make("binary", name="other", mount=False)
    done = stores.cli("mount", "--metrics", str(port), other.store, other.path, fails=1)
    assert b"Address already in use" in done.stderr
    assert other.holder() is None
    stores.cli("mount", "--metrics", "1:2:3", other.store, other.path, fails=1)
    mounted.umount()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=PATIENCE)


def test_stat_tells_who_has_it_open_and_how_far_it_is_synced(binary):
    with open(binary.path / "f", "wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    binary.cli("snapshot", "create", binary.store, "first", ok=True)
    text = binary.cli("stat", binary.store, ok=True).stdout.decode()
    assert f"mounts it at {binary.path}, since 20" in text
    assert re.search(r"^synced: +up to record 1 of 1, [0-9.]+ s ago$", text, re.MULTILINE), text
    assert "snapshots:         first\n" in text
    assert "\x1b" not in text
    shown = json.loads(binary.cli("stat", "--json", binary.store, ok=True).stdout)
    assert shown["snapshots"][0]["name"] == "first"
    assert shown["mount"]["log"]["synced"] == 1
    binary.umount()
    shown = json.loads(binary.cli("stat", "--json", binary.store, ok=True).stdout)
    assert (shown["mount"], shown["holder"], shown["held_since"]) == (None, None, None)


def test_top_in_lines(stores):
    mounted = stores.make("binary")
    for where in (mounted.store, mounted.path):
        done = stores.cli("top", "--once", "--interval", "0.1", where, ok=True)
        assert done.stdout.count(b"\n") == 1
        assert b" requests/s  " in done.stdout
    done = stores.cli("top", "--once", "--json", "--interval", "0.1", mounted.store, ok=True)
    assert json.loads(done.stdout)["mountpoint"] == str(mounted.path)
    mounted.umount()
    done = stores.cli("top", "--once", mounted.store, fails=1)
    assert b"is not mounted" in done.stderr
    stores.cli("mount", "--read-only", mounted.store, mounted.path, ok=True)
    try:
        done = stores.cli("top", "--once", "--json", "--interval", "0.1", mounted.path, ok=True)
        assert json.loads(done.stdout)["store"] == str(mounted.store)
        stores.cli("top", "--once", mounted.store, fails=1)
    finally:
        stores.cli("unmount", mounted.path, ok=True)


def test_top_goes_on_until_its_mount_ends(binary):
    command = [sys.executable, "-m", "kvfs", "top", "--interval", "0.05", str(binary.store)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(3):
            assert b"requests/s" in process.stdout.readline()
        binary.umount()
        _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert said.startswith(b"kvfs: ")
    assert said.count(b"\n") == 1


def read_until(fd, wanted):
    """Read from a terminal until it has shown `wanted`, or its other end is closed."""
    seen = b""
    while wanted is None or wanted not in seen:
        assert select.select([fd], [], [], PATIENCE)[0], seen
        try:
            data = os.read(fd, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            assert wanted is None, seen
            break
        seen += data
    return seen


@pytest.mark.parametrize("how", ["q", "signal"])
def test_top_on_a_terminal(binary, how):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kvfs", "top", "--interval", "0.05", str(binary.store)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as process:
        os.close(theirs)
        (binary.path / "f").write_bytes(b"x")
        read_until(ours, b"create")
        read_until(ours, b"q ends")
        if how == "q":
            os.write(ours, b"xq")
        else:
            process.send_signal(signal.SIGINT)
        rest = read_until(ours, None)
        assert b"\x1b[?1049l" in rest  # the screen is as it was
        assert b"Traceback" not in rest
        assert process.wait(PATIENCE) == 0
    os.close(ours)
