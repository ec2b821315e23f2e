"""find, sort, flock, FIFOs, sockets and inotify on a mount, and fio, which checks what it wrote."""

import ctypes
import json
import os
import select
import socket
import struct
import subprocess

import pytest

MIB = 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True)

FIND = {
    "newer": "touch -d 2001-01-01 a; touch -d 2002-01-01 b; touch -d 2003-01-01 c; find . -type f -newer b; find . -type f ! -newer b | sort; find . -type f -newermt 2002-06-01; touch d; find . -anewer c -type f",
    "samefile": "echo 1 > a; mkdir d; ln a d/b; ln -s a c; ln d/b e; find . -samefile d/b | sort; find -L . -samefile a | sort; find . -inum $(stat -c %i e) | sort; find . -links 3 | sort; find . -type f -links -2",
    "delete": "mkdir -p x/{1..9}/{1..9}; touch x/{1..9}/{1..9}/{1..9}; find x | wc -l; find x -name 5 -type f -delete; find x -type f | wc -l; find x -name 7 -depth -exec rm -r {} +; find x | sort | md5sum; find x -delete; ls -A",
    "exec": "for i in {1..300}; do echo $i > f$i; done; find . -type f -print0 | xargs -0 -n 50 cat | sort -n | md5sum; find . -name 'f1*' -exec mv {} {}.x \\;; ls | wc -l; find . -name '*.x' -print0 | xargs -0 rm; ls | wc -l; find . -empty; find . -type f -size -1k | wc -l",
}  # fmt: skip


@pytest.mark.parametrize("name", FIND)
def test_find(binary, tools, tmp_path, name):
    plain = tmp_path / "plain"
    plain.mkdir()
    assert binary.run(FIND[name]) == tools.run(FIND[name], plain)
    assert tools.tree(binary.path) == tools.tree(plain)


def test_sort_with_its_temporary_files(binary):
    lines = [f"{number * 7919 % 200_000:06}\n" for number in range(200_000)]
    (binary.path / "unsorted").write_text("".join(lines))
    (binary.path / "tmp").mkdir()
    binary.run("sort -S 1M -T tmp unsorted > sorted; sort -S 1M -T tmp -o unsorted unsorted")
    expected = "".join(sorted(lines))
    assert os.listdir(binary.path / "tmp") == []
    binary.remount()
    assert (binary.path / "sorted").read_text() == expected
    assert (binary.path / "unsorted").read_text() == expected


def test_flock_keeps_shells_apart(binary, start, finish):
    holder = start(
        "flock", "lock", "sh", "-c", "echo held; read x; echo 1 >> order", cwd=binary.path
    )
    assert holder.stdout.readline() == "held\n"
    refused = subprocess.run(["flock", "-n", "lock", "true"], cwd=binary.path, check=False)
    assert refused.returncode == 1
    waiter = start("flock", "lock", "sh", "-c", "echo 2 >> order", cwd=binary.path)
    holder.stdin.write("\n")
    holder.stdin.flush()
    finish(holder)
    finish(waiter)
    assert (binary.path / "order").read_text() == "1\n2\n"
    shared = start("flock", "-s", "lock", "sh", "-c", "echo held; read x", cwd=binary.path)
    assert shared.stdout.readline() == "held\n"
    for how, status in (("-sn", 0), ("-xn", 1)):
        done = subprocess.run(["flock", how, "lock", "true"], cwd=binary.path, check=False)
        assert done.returncode == status


LOCKS = """
import fcntl, sys
with open("locked", "r+b") as file:
    for line in sys.stdin:
        how, start, length = line.split()
        try:
            operation = getattr(fcntl, "LOCK_" + how) | (fcntl.LOCK_NB if how != "UN" else 0)
            fcntl.lockf(file, operation, int(length), int(start))
            print("done", flush=True)
        except BlockingIOError:
            print("refused", flush=True)
"""


def test_locks_of_ranges(binary, python):
    (binary.path / "locked").write_bytes(bytes(100))
    one, other = (python(LOCKS, cwd=binary.path) for _ in range(2))

    def ask(process, words):
        process.stdin.write(words + "\n")
        process.stdin.flush()
        return process.stdout.readline()

    assert ask(one, "EX 0 10") == "done\n"
    assert ask(other, "EX 10 10") == "done\n"
    assert ask(other, "EX 5 1") == "refused\n"
    assert ask(one, "SH 15 1") == "refused\n"
    assert ask(one, "UN 5 1") == "done\n"
    assert ask(other, "EX 5 1") == "done\n"
    assert ask(other, "SH 4 1") == "refused\n"
    one.kill()
    one.wait()
    assert ask(other, "EX 0 0") == "done\n"


def test_a_fifo_joins_two_processes(binary, start, finish):
    binary.run("mkfifo -m 600 fifo")
    binary.remount()
    reader = start("md5sum", "fifo", cwd=binary.path)
    writer = start("sh", "-c", "seq 100000 > fifo", cwd=binary.path)
    finish(writer)
    expected = subprocess.run("seq 100000 | md5sum", shell=True, check=True, capture_output=True)
    assert finish(reader).split()[0] == expected.stdout.decode().split()[0]
    assert (binary.path / "fifo").stat().st_size == 0


def test_a_socket_in_the_mount(binary):
    path = binary.path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert path.is_socket()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            accepted, _ = server.accept()
            with accepted:
                client.sendall(b"over the socket")
                assert accepted.recv(100) == b"over the socket"
        with socket.socket(socket.AF_UNIX) as second, pytest.raises(OSError, match="in use"):
            second.bind(str(path))
    binary.remount()
    assert path.is_socket()
    with socket.socket(socket.AF_UNIX) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(path))
    path.unlink()


IN = {
    "create": 0x100,
    "modify": 2,
    "close": 8,
    "from": 0x40,
    "to": 0x80,
    "delete": 0x200,
    "attrib": 4,
}


def test_inotify_tells_what_programs_do(binary):
    fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert fd >= 0
    try:
        watch = _libc.inotify_add_watch(fd, os.fsencode(binary.path), sum(IN.values()))
        assert watch >= 0
        binary.run("echo 1 > a; mv a b; chmod 600 b; rm b; mkdir d")
        events = []
        while select.select([fd], [], [], 0)[0]:
            data = os.read(fd, 65536)
            while data:
                _, mask, _, length = struct.unpack_from("iIII", data)
                events.append((mask & 0xFFF, data[16 : 16 + length].rstrip(b"\0")))
                data = data[16 + length :]
    finally:
        os.close(fd)
    expected = [("create", b"a"), ("modify", b"a"), ("close", b"a"), ("from", b"a"), ("to", b"b")]
    expected += [("attrib", b"b"), ("delete", b"b"), ("create", b"d")]
    assert events == [(IN[name], path) for name, path in expected]


@pytest.mark.parametrize(
    "options",
    [
        "--ioengine=sync --bs=4k",
        "--ioengine=psync --bsrange=512-64k --fsync=64",
        "--ioengine=mmap --bs=4k",
        "--ioengine=libaio --iodepth=8 --direct=1 --bs=4k",
        "--ioengine=psync --bssplit=1k/30:4k/50:128k/20 --overwrite=1 --end_fsync=1",
    ],
    ids=["sync", "psync", "mmap", "libaio-direct", "overwrite"],
)
def test_fio_reads_what_it_wrote(binary, options):
    command = ["fio", "--name=job", "--directory=.", "--rw=randrw", "--size=2M", "--numjobs=3"]
    command += ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--output-format=json"]
    command += ["--randseed=1", "--group_reporting=1", *options.split()]
    for only in ([], ["--verify_only=1"]):
        done = subprocess.run(
            [*command, *only], cwd=binary.path, check=False, capture_output=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, b""), done
        job = json.loads(done.stdout)["jobs"][0]
        assert job["error"] == 0
        assert job["read"]["total_ios"] > 0
        if not only:
            assert job["write"]["total_ios"] > 0
            binary.remount()
