"""Processes that make the same system calls in two worlds, as various users.

An agent is a process in each world. Each has the top of its world as its root,
so that no path leads out of it, and descriptors and a working directory of its
own. It ends when its connection is closed.
"""

import errno
import gc
import os
import select
import signal
import traceback
from contextlib import suppress
from multiprocessing import Pipe
from typing import NamedTuple

from calls import Calls

_PATIENCE = 20.0


class User(NamedTuple):
    """Who an agent is."""

    uid: int
    groups: tuple[int, ...]
    umask: int


class Process:
    """A process of a user in one world."""

    def __init__(self, user, top):
        self._connection, theirs = Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _become(user, top, theirs)
        theirs.close()

    def do(self, call, args):
        """Return ("done", the result) or ("failed", the name of the errno)."""
        self._connection.send((call, args))
        return self._connection.recv()

    def end(self):
        """End the process; nothing is left of it then."""
        self._connection.close()
        fd = os.pidfd_open(self._pid)
        if not select.select([fd], [], [], _PATIENCE)[0]:
            os.kill(self._pid, signal.SIGKILL)
        os.close(fd)
        os.waitpid(self._pid, 0)


class Agent:
    """A user with a process in each of the worlds."""

    def __init__(self, user, tops):
        self._processes = []
        try:
            for top in tops:
                self._processes.append(Process(user, top))
        except BaseException:
            self.end()
            raise

    def do(self, call, *args):
        """Make a system call in each world, one after the other; return both outcomes."""
        return [process.do(call, args) for process in self._processes]

    def end(self):
        for process in self._processes:
            process.end()


def _become(user, top, connection):
    """Serve as `user` below `top`, and never return."""
    status = 1
    try:
        gc.disable()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.closerange(3, connection.fileno())
        os.closerange(connection.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        os.chroot(top)
        os.chdir("/")
        os.umask(user.umask)
        os.setgroups(user.groups[1:])
        os.setresgid(*[user.groups[0]] * 3)
        os.setresuid(*[user.uid] * 3)
        _serve(connection)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _serve(connection):
    calls = Calls()
    with suppress(EOFError):
        while True:
            name, args = connection.recv()
            try:
                outcome = "done", getattr(calls, name)(*args)
            except OSError as error:
                outcome = "failed", errno.errorcode[error.errno]
            except ValueError as error:
                outcome = "failed", str(error)
            connection.send(outcome)
