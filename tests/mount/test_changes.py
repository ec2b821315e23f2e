"""`.kvfs/changes`: read and polled by programs that know nothing of kvfs, and what ends that."""

import ctypes
import errno
import json
import os
import select
import signal
import stat
import struct
import subprocess
import threading
from contextlib import contextmanager, suppress

import pytest
from processes import FORK

from kvfs.store.history import changes

PATIENCE = 20.0


def feed(mounted, number=None):
    name = "changes" if number is None else f"changes.{number}"
    return mounted.path / ".kvfs" / name


@contextmanager
def following(mounted, number=None, more=0):
    fd = os.open(feed(mounted, number), os.O_RDONLY | more)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def program(*words, **options):
    """Run a program that may wait for ever, in the directory of the mount."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options) as run:
        try:
            yield run
        finally:
            run.kill()


def lines(data):
    return [json.loads(line) for line in data.splitlines()]


def flags(pid, path):
    """Return the flags that a process has `path` open with, 0 where it has not."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            # Each that opens it has a node of its own, and the last one has the name.
            if os.readlink(f"/proc/{pid}/fd/{fd}").removesuffix(" (deleted)") == str(path):
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                    return int(file.read().partition("flags:")[2].split()[0], 8)
    return 0


def waits(pid, path):
    """Tell whether a process has `path` open, and sleeps."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return flags(pid, path) and file.read().rpartition(")")[2].split()[0] == "S"


def test_a_read_waits_for_the_next_change(mounted):
    (mounted.path / "before").write_text("1")
    with following(mounted) as fd:
        read = []
        reader = threading.Thread(target=lambda: read.append(os.read(fd, 4096)))
        reader.start()
        (mounted.path / "after").write_text("12")
        reader.join(PATIENCE)
        (change,) = lines(read[0])
    known = list(changes(str(mounted.store)))[-1]
    assert (change["seq"], change["key"], change["size"]) == (known.sequence, "after", 2)


def test_it_tells_what_watch_tells(mounted):
    mounted.run(
        """
        echo one > a; mkdir d; echo two > d/b; mv d e; mv a c; ln c l; ln -s x s; mkfifo p
        chmod 600 c; echo more >> c; truncate -s 1 c; rm c; rm -r e
        """
    )
    told = mounted.cli("watch", mounted.store, "--from", "0", "--json", "--timeout", "0", ok=True)
    with following(mounted, 0) as fd:
        data = b""
        while data.count(b"\n") < told.stdout.count(b"\n"):
            data += os.read(fd, 1000)
    assert data == told.stdout
    moved = next(change for change in lines(data) if change["directory"] and "new" in change)
    assert (moved["what"], moved["key"], moved["new"]) == ("rename", "d", "e")
    first = lines(data)[-3]["seq"]
    with following(mounted, first) as fd:
        last = b""
        while last.count(b"\n") < 3:  # each read has what there is
            last += os.read(fd, 1 << 20)
    assert last == b"".join(data.splitlines(keepends=True)[-3:])


def test_nobody_else_is_kept_waiting(binary):
    with program("cat", feed(binary)), following(binary), following(binary, more=os.O_NONBLOCK):
        for turn in range(20):
            (binary.path / f"f{turn}").write_text("x")
        binary.run("cat f* | wc -c; ls -l; sync f3; rm f4")


def test_without_waiting(binary):
    with following(binary, more=os.O_NONBLOCK) as fd:
        with pytest.raises(BlockingIOError):
            os.read(fd, 100)
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(0) == []
        (binary.path / "a").write_text("1")
        assert poll.poll(1000 * PATIENCE) == [(fd, select.POLLIN)]
        assert lines(os.read(fd, 4096))[0]["key"] == "a"
        with pytest.raises(BlockingIOError):
            os.read(fd, 4096)


@pytest.mark.parametrize("how", ["poll", "select", "epoll"])
def test_those_who_poll_are_woken(binary, how):
    with following(binary) as fd:
        poll, epoll = select.poll(), select.epoll()
        poll.register(fd, select.POLLIN)
        epoll.register(fd, select.EPOLLIN)
        wait = {
            "poll": lambda: poll.poll(1000 * PATIENCE),
            "select": lambda: select.select([fd], [], [], PATIENCE)[0],
            "epoll": lambda: epoll.poll(PATIENCE),
        }[how]
        for turn in range(5):
            writer = FORK.Process(target=(binary.path / "a").write_text, args=(str(turn),))
            writer.start()
            assert wait()
            writer.join()
            assert [change["key"] for change in lines(os.read(fd, 4096))] == ["a"]
        epoll.close()


def test_ordinary_files_are_ready_at_once(binary):
    (binary.path / "a").write_text("1")
    for path in (binary.path / "a", binary.path / ".kvfs/at/0/a"):
        with open(path, "rb") as file:
            assert select.select([file], [], [], PATIENCE)[0] == [file]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_a_reader(binary, tools, number):
    with program("cat", feed(binary)) as cat:
        tools.until(lambda: waits(cat.pid, feed(binary)))
        cat.send_signal(number)
        assert cat.wait(PATIENCE) == -number


def test_a_handler_interrupts_a_read(binary):
    class Told(Exception):
        pass

    def handler(_number, _frame):
        raise Told

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with following(binary) as fd:
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(Told):
                os.read(fd, 100)
            (binary.path / "a").write_text("1")
            assert lines(os.read(fd, 4096))[0]["key"] == "a"
    finally:
        signal.signal(signal.SIGALRM, before)


# -- ordinary tools ------------------------------------------------------------------------


def test_head_and_cat(binary):
    binary.run("for n in 1 2 3; do echo $n > f$n; done")
    assert len(lines(binary.run("head -2 .kvfs/changes.0"))) == 2
    with program("cat", feed(binary, 1)) as cat:
        found = [json.loads(cat.stdout.readline())["key"] for _ in range(2)]
        assert found == ["f2", "f3"]
        (binary.path / "f4").write_text("1")
        assert json.loads(cat.stdout.readline())["key"] == "f4"


def test_a_shell_reads_line_by_line(binary):
    script = """
        while read -r line; do
            echo "got $line"
            case $line in *last*) break;; esac
        done < .kvfs/changes.0
    """
    binary.run("for n in $(seq 300); do echo $n > f$n; done; echo > last")
    for shell in ("bash", "sh"):
        got = binary.run(script, shell=shell).splitlines()
        keys = [json.loads(line.removeprefix(b"got "))["key"] for line in got]
        assert keys == [*(f"f{n}" for n in range(1, 301)), "last"]


@pytest.mark.parametrize("words", [["tail", "-f"], ["tail", "-F"]])
def test_tail(binary, tools, words):
    with program(*words, feed(binary)) as tail:
        tools.until(lambda: flags(tail.pid, feed(binary)) & os.O_NONBLOCK)
        for name in ("a", "b"):
            (binary.path / name).write_text("1")
            assert json.loads(tail.stdout.readline())["key"] == name
        tail.terminate()
        assert tail.stderr.read() == b""


def test_it_is_a_file_that_only_its_owner_reads(stores):
    mounted = stores.make(options=["-o", "allow_other"])
    os.chmod(stores.directory, 0o755)
    found = os.stat(feed(mounted))
    assert stat.S_IFMT(found.st_mode) == stat.S_IFREG
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o400, os.getuid())
    assert "changes" in os.listdir(mounted.path / ".kvfs")
    assert not os.path.exists(mounted.path / ".kvfs/changes.x")

    def attempt():
        os.setuid(65534)
        try:
            os.open(feed(mounted), os.O_RDONLY)
        except PermissionError:
            os._exit(7)

    process = FORK.Process(target=attempt)
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 7 or os.getuid() != 0
    for change in (
        lambda: open(feed(mounted), "wb"),
        lambda: os.chmod(feed(mounted), 0o644),
        lambda: os.unlink(feed(mounted)),
    ):
        with pytest.raises(OSError, match=r"Read-only|not permitted"):
            change()


def test_numbers_that_cannot_be(binary):
    with pytest.raises(OSError, match="Invalid") as error:
        os.open(feed(binary, 99), os.O_RDONLY)
    assert error.value.errno == errno.EINVAL


def test_what_is_gone_is_no_file(stores):
    mounted = stores.make(size=4096)
    mounted.run("for n in $(seq 60); do head -c 500 /dev/urandom > f; done")
    with following(mounted, 0) as slow:
        mounted.cli("compact", mounted.store, "--keep-history", "0", ok=True)
        with pytest.raises(FileNotFoundError):
            os.open(feed(mounted, 0), os.O_RDONLY)
        assert lines(os.read(slow, 1 << 20))[0]["seq"] == 0


def test_a_slow_reader_is_told_that_it_was_too_slow(stores):
    mounted = stores.make(size="64KiB")
    with following(mounted, 0) as slow:
        for _ in range(6000):
            (mounted.path / "f").write_bytes(b"x" * 500)
        mounted.cli("compact", mounted.store, "--keep-history", "0", ok=True)
        parts = []
        with pytest.raises(OSError, match="Stale"):
            parts += iter(lambda: os.read(slow, 1 << 16), b"")
        told = [change["seq"] for change in lines(b"".join(parts))]
        assert told == list(range(len(told)))


# -- the end of the mount --------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SIGTERM", "lazy", "SIGKILL"])
def test_the_end_of_the_mount_is_the_end_of_the_file(binary, tools, end):
    with program("cat", feed(binary)) as cat, program("cat", feed(binary)) as other:
        tools.until(lambda: waits(cat.pid, feed(binary)) and waits(other.pid, feed(binary)))
        if end == "lazy":
            subprocess.run(["umount", "-l", binary.path], check=True)
        else:
            binary.daemon.send(signal.Signals[end])
        assert binary.daemon.ended(PATIENCE)
        expected = 1 if end == "SIGKILL" else 0
        assert (cat.wait(PATIENCE), other.wait(PATIENCE)) == (expected, expected)


def test_killed_daemon_and_reader_go_on_where_they_were(binary):
    (binary.path / "a").write_text("1")
    with following(binary, 0) as fd:
        seen = lines(os.read(fd, 4096))[-1]["seq"]
        binary.kill()
        with pytest.raises(OSError, match=r"connect|abort"):
            os.read(fd, 4096)
    binary.mount()
    (binary.path / "b").write_text("1")
    with following(binary, seen + 1) as fd:
        assert lines(os.read(fd, 4096))[0]["key"] == "b"


# -- inotify ---------------------------------------------------------------------------------

_libc = ctypes.CDLL(None, use_errno=True)
_EVENTS = {"modify": 0x2, "close": 0x8, "from": 0x40, "to": 0x80, "create": 0x100, "delete": 0x200}


def test_inotify_tells_what_others_do_through_the_mount(binary):
    """The kernel does it by itself; `kvfs put` goes through the mount, and is seen too."""
    (binary.path / "d").mkdir()
    fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert _libc.inotify_add_watch(fd, os.fsencode(binary.path / "d"), sum(_EVENTS.values())) > 0

    def events():
        data, found = os.read(fd, 1 << 16), []
        while data:
            _, mask, _, size = struct.unpack_from("iIII", data)
            name = data[16 : 16 + size].rstrip(b"\0").decode()
            found += [(what, name) for what, bit in _EVENTS.items() if mask & bit]
            data = data[16 + size :]
        return found

    try:
        binary.run("echo 1 > d/a; echo 2 >> d/a; mv d/a d/b; rm d/b")
        assert events() == [
            *[("create", "a"), ("modify", "a"), ("close", "a"), ("modify", "a"), ("close", "a")],
            *[("from", "a"), ("to", "b"), ("delete", "b")],
        ]
        binary.cli("put", binary.store, "d/c", "value", ok=True)
        assert ("create", "c") in events()
    finally:
        os.close(fd)
