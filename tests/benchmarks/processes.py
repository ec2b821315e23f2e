"""Programs, daemons and mounts of the benchmark, and how each of them ends.

A program runs in a session of its own, so that Ctrl-C reaches the harness alone and its whole group
ends with it. A daemon is known by a pidfd, so neither a wait nor a signal can hit another process.
Whatever fails here fails as `Failure`, whose text is one line.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE = 30.0  # seconds for a daemon to come up or to end
_MNT_DETACH = 2
_MARK = "KVFS_BENCHMARK"  # in the environment of all that is started
_daemons: set[Daemon] = set()  # those that run; one may have overwritten its environment
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """A peer or a program did not do its work; the text is one line."""


def run(
    command: Sequence[object],
    *,
    seconds: float = 600.0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    text: str = "",
) -> str:
    """Run a program to its end and return what it printed. Raises `Failure`."""
    words = [os.fspath(word) if isinstance(word, os.PathLike) else str(word) for word in command]
    pipe = subprocess.PIPE
    try:
        child = subprocess.Popen(
            words,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            errors="replace",
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    except OSError as error:
        raise Failure(f"{words[0]} cannot be run: {error.strerror}") from None
    try:
        out, err = child.communicate(text, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise Failure(f"{Path(words[0]).name} took more than {seconds:g} s") from None
    finally:
        if child.poll() is None:
            _kill_group(child)
    if child.returncode:
        raise Failure(_complaint(words, child.returncode, err))
    return out


def _complaint(words: list[str], status: int, err: str) -> str:
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    said = lines[-1] if lines else "without a word"
    return f"{Path(words[0]).name} ended with {status}: {said}"


def _kill_group(child: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    # It may wait in the kernel for a mount that hangs; that daemon is ended later.
    with suppress(subprocess.TimeoutExpired):
        child.wait(2.0)


class Daemon:
    """A process that runs until it is ended."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Take over the process `pid`. Raises `Failure` if it is gone."""
        self.pid = pid
        self._child = child
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise Failure(f"the process {pid} has ended already") from None

    @classmethod
    def start(
        cls,
        command: Sequence[object],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        executable: str | None = None,
    ) -> Daemon:
        """Start a program in the background; what it says goes to the file `log`."""
        words = [str(word) for word in command]
        with log.open("ab") as file:
            try:
                child = subprocess.Popen(
                    words,
                    executable=executable,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=file,
                    env=env,
                    start_new_session=True,
                )
            except OSError as error:
                raise Failure(f"{words[0]} cannot be run: {error.strerror}") from None
        daemon = cls(child.pid, child)
        _daemons.add(daemon)
        return daemon

    def ended(self, seconds: float = 0.0) -> bool:
        """Tell whether the process has ended, at the latest after `seconds`."""
        if self._fd >= 0:
            waiting = select.poll()
            waiting.register(self._fd, select.POLLIN)
            if not waiting.poll(seconds * 1000):
                return False
            if self._child is not None:
                self._child.wait()
            os.close(self._fd)
            self._fd = -1
            _daemons.discard(self)
        return True

    def send(self, number: int) -> None:
        if self._fd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def end(self, patience: float = PATIENCE) -> bool:
        """End the process and tell whether it went by itself within `patience`."""
        willing = self.ended(patience)
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.ended():
                self.send(number)
                self.ended(5.0)
        return willing


def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until `condition()` holds. Raises `Failure` at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not within {seconds:g} s")
        time.sleep(0.005)


def mounts_below(directory: Path) -> list[str]:
    """Return the mountpoints at and below `directory`, the latest first."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            path = line.split(" ")[4].encode("utf-8", "surrogateescape").decode("unicode_escape")
            if Path(path).is_relative_to(directory):
                found.append(path)
    return found[::-1]


def is_mounted(path: Path) -> bool:
    return str(path) in mounts_below(path)


def unmount(path: Path) -> None:
    """End the mount at `path` as an administrator does. Raises `Failure`."""
    tool = ["umount"] if os.geteuid() == 0 else [shutil.which("fusermount3") or "fusermount3", "-u"]
    run([*tool, path], seconds=PATIENCE)


def detach(path: str) -> None:
    """End the mount at `path` without asking it for anything."""
    if os.geteuid() == 0:
        _libc.umount2(os.fsencode(path), _MNT_DETACH)
    else:
        with suppress(Failure):
            run(["fusermount3", "-uz", path], seconds=PATIENCE)


def mark(directory: Path) -> None:
    """Let every process that is started from now on carry `directory` in its environment."""
    os.environ[_MARK] = str(directory)


def marked() -> list[int]:
    """Return the processes that were started since `mark`, and their descendants."""
    needle, found = os.fsencode(f"{_MARK}={os.environ[_MARK]}\0"), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if needle in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
    return found


def end_marked() -> None:
    """End every process that was started since `mark`."""
    for daemon in list(_daemons):
        daemon.end(0.0)
    for pid in marked():
        with suppress(Failure):
            Daemon(pid).end(0.0)


def sweep(directory: Path) -> list[str]:
    """End every mount below `directory` and every marked process; return what did not end."""
    for path in mounts_below(directory):
        detach(path)
    end_marked()
    left = [f"mount {path}" for path in mounts_below(directory)]
    return left + [f"process {pid}" for pid in marked()]
