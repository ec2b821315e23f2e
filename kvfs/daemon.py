"""The processes that serve mounts: in the background or the foreground, and how one is ended.

`start` serves in a new process and returns once the mount answers; `serve` does
it in this one, until the mount ends.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from kvfs import mounts
from kvfs.disk import Disk
from kvfs.errors import KvfsError, MountError, in_words
from kvfs.notify import Manager
from kvfs.serving import DYING, check, do_nothing, is_stale, run
from kvfs.store import holder_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.serving import MountOptions

LOG = "daemon.log"
_STEP = 0.01
_log = logging.getLogger(__name__)


def start(store: str, mountpoint: str, options: MountOptions) -> int:
    """Mount `store` at `mountpoint` from a new process and return its pid.

    Returns once the mount answers. Raises `MountError` with what the daemon
    says if it does not come up.
    """
    check(store, mountpoint)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _background(store, mountpoint, options, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = os.fsdecode(pipe.read())
    if not answer.startswith("ready "):
        os.waitpid(pid, 0)
        raise MountError(answer or f"the daemon died; see {os.path.join(store, LOG)}")
    os.waitpid(pid, 0)
    os.statvfs(mountpoint)
    return int(answer.split()[1])


def serve(
    store: str,
    mountpoint: str,
    options: MountOptions,
    ready: Callable[[], object] = do_nothing,
) -> None:
    """Serve `store` at `mountpoint` in the foreground, as a service where a manager started us.

    `ready` is called once the mount is there. Raises `MountError` or what the store says.
    """
    manager = Manager()
    manager.tell(f"STATUS=opening {store}")

    def serving() -> None:
        manager.tell("READY=1", f"STATUS=serving {store} at {mountpoint}")
        ready()

    try:
        run(
            store,
            mountpoint,
            options,
            serving,
            lambda: manager.tell("STOPPING=1", f"STATUS=closing {store}"),
        )
    except OSError as error:
        manager.tell(f"STATUS={in_words(error)}", f"ERRNO={error.errno or errno.EIO}")
        raise


def unmount(mountpoint: str, disk: Disk, *, lazy: bool = False) -> None:
    """End the mount at `mountpoint` and return once its daemon has let go of the store.

    With `lazy`, it goes from the directory at once, and the daemon ends once nobody has
    anything open in it; nobody waits for that. Raises `MountError`.
    """
    mount = mounts.find(mountpoint)
    if mount is None:
        message = f"no kvfs store is mounted at {mountpoint}"
        raise MountError(message, errno.EINVAL)
    if lazy:
        mounts.unmount(mountpoint, lazy=True)
        return
    holder = holder_of(disk, mount.store)
    stale = is_stale(mountpoint)
    mounts.unmount(mountpoint, lazy=stale)
    if holder is None or stale or holder.mountpoint != mount.mountpoint:
        return
    deadline = time.monotonic() + DYING
    while holder_of(disk, mount.store) == holder:
        if time.monotonic() > deadline:
            message = f"unmounted, but daemon {holder.pid} has not finished yet"
            raise MountError(message, errno.EBUSY)
        time.sleep(_STEP)


def _background(store: str, mountpoint: str, options: MountOptions, pipe: int) -> NoReturn:
    """Become a daemon and serve; tell `pipe` that it is ready, or why it is not."""
    os.setsid()
    if os.fork():
        os._exit(0)
    status = 1
    told = False

    def tell(message: str) -> None:
        nonlocal told
        told = True
        os.write(pipe, os.fsencode(message))
        os.close(pipe)

    def ready() -> None:
        _detach(store)
        tell(f"ready {os.getpid()}")

    try:
        run(store, mountpoint, options, ready)
        status = 0
    except BaseException as error:  # noqa: BLE001 - told to whom it concerns, then the process ends
        if not told:
            tell(_explain(error))
        elif isinstance(error, KvfsError):
            _log.error("%s", error)
        else:
            _log.exception("the daemon failed")
    finally:
        with suppress(Exception):
            logging.shutdown()
        os._exit(status)


def _explain(error: BaseException) -> str:
    """Return what is wrong in one sentence."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, OSError):
        return in_words(error, "the daemon failed")
    return f"the daemon failed: {error!r}"


def _detach(store: str) -> None:
    """Let go of the terminal and of the working directory; log to a file in the store."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    fd = Disk().open(os.path.join(store, LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stream = os.fdopen(fd, "a", encoding="utf-8")
    logging.basicConfig(
        stream=stream,
        level=logging.INFO,
        format="%(asctime)s kvfs[%(process)d] %(message)s",
        force=True,
    )
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for good
    _log.info("mounted")
