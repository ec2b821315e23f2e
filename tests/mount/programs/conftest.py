"""What the tests of whole programs share: an environment of their own, processes, a varied tree.

Nothing is skipped where a program is missing: `tests/run.sh` installs them.
"""

import os
import shutil
import stat
import subprocess
import sys

import pytest

MIB = 1024 * 1024
SECOND = 10**9


@pytest.fixture(autouse=True)
def home(tmp_path, tools, monkeypatch):
    """Give programs an empty home and the C locale; leave nothing of `tmp_path`."""
    path = tmp_path / "home"
    path.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "RSYNC_", "PIP_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": path,
        "LC_ALL": "C",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "PYTHONDONTWRITEBYTECODE": "",
    }.items():
        monkeypatch.setenv(name, str(value))
    yield path
    if not tools.mounts_below(tmp_path):
        shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def start(stores):
    """Return a function that starts a process with pipes; it is ended before its mount is."""
    started = []

    def popen(*command, cwd):
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def python(start):
    """Return a function that starts Python with a script and arguments."""
    return lambda script, *args, cwd: start(sys.executable, "-c", script, *map(str, args), cwd=cwd)


@pytest.fixture
def finish(tools):
    """Return a function that waits for a process, which must succeed, and returns its output."""

    def wait(process, said=None):
        output, errors = process.communicate(said, timeout=60)
        assert process.returncode == 0, (process.args, output, errors)
        return output

    return wait


def varied_tree(top):
    """Make a tree of all that a program that copies trees can meet, but sockets and devices."""
    top = os.fsencode(top)

    def path(name):
        return os.path.join(top, name)

    def write(name, content):
        os.makedirs(os.path.dirname(path(name)), exist_ok=True)
        with open(path(name), "wb") as file:
            file.write(content)

    write(b"plain", b"some text\n")
    write(b"empty", b"")
    write(b"large", os.urandom(3 * MIB + 5))
    write(b"\xff\xfe not utf-8", b"1")
    write(b"new\nline and ' \" \\ *", b"2")
    write(b"n" * 255, b"3")
    write(b"/".join([b"deep"] * 60) + b"/file", b"4")
    for number in range(100):
        write(b"many/%d" % number, b"%d\n" % number)
    with open(path(b"sparse"), "wb") as file:
        file.seek(2 * MIB)
        file.write(b"an island")
        file.truncate(8 * MIB)
    for number in range(3):
        os.link(path(b"plain"), path(b"many/linked %d" % number))
    os.mkdir(path(b"none"))
    os.mkfifo(path(b"fifo"))
    os.symlink(b"plain", path(b"link"))
    os.symlink(b"\xff nowhere", path(b"dangling"))
    os.symlink(b"t" * 4095, path(b"long link"))
    os.setxattr(path(b"plain"), "user.text", b"value")
    os.setxattr(path(b"plain"), "user.bytes", bytes(range(256)))
    os.setxattr(path(b"many"), "user.empty", b"")
    for number, name in enumerate((b"large", b"empty", b"none", b"fifo", b"link")):
        os.chown(path(name), 1000 + number, 2000 + number, follow_symlinks=False)
    modes = {b"plain": 0o4755, b"empty": 0o000, b"large": 0o2751, b"none": 0o1777, b"many": 0o2770}
    for name, mode in modes.items():
        os.chmod(path(name), mode)
    # Long ago: rsync leaves the time of a new link that is right to the second.
    times = {
        os.path.relpath(os.path.join(directory, name), top): 10**18 + number
        for number, (directory, names, files) in enumerate(os.walk(top))
        for name in [*names, *files]
    } | {
        b"plain": 987_654_321 * SECOND + 123_456_789,
        b"empty": -1_500_000_001,
        b"link": 1_000_000_000 * SECOND + 1,
        b"sparse": 2_200_000_000 * SECOND + 999_999_999,
        b"fifo": 0,
        b"none": 1_234_567_890 * SECOND + 5,
        b"many": 1_300_000_000 * SECOND + 7,
        b"deep": -86_400 * SECOND,
        b".": 1_400_000_000 * SECOND + 9,
    }
    for name, time in times.items():
        os.utime(path(name), ns=(time, time), follow_symlinks=False)


def facts(top):
    """Return what a faithful copy of `top` has in common with it, by path."""
    top = os.fsencode(top)
    found, names_of = {}, {}
    for directory, names, files in os.walk(top):
        for name in [b".", *names, *files]:
            path = os.path.normpath(os.path.join(directory, name))
            where = os.path.relpath(path, top)
            if where in found:
                continue
            info = os.lstat(path)
            content = None
            if stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            xattrs = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
                if name.startswith("user.")
            }
            names_of.setdefault(info.st_ino, set()).add(where)
            found[where] = {
                "mode": oct(info.st_mode),
                "owner": (info.st_uid, info.st_gid),
                "links": 0 if stat.S_ISDIR(info.st_mode) else info.st_nlink,
                "names": names_of[info.st_ino],
                "time": info.st_mtime_ns,
                "xattrs": xattrs,
                "content": content,
            }
    return found


@pytest.fixture(scope="session")
def trees():
    """Return this module, for the functions in it that make and compare trees."""
    return sys.modules[__name__]
