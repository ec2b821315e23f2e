"""One mount, from the lock of its store to the last sync."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import threading
import time
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from kvfs import __version__, mounts
from kvfs.control import Control
from kvfs.disk import Disk
from kvfs.errors import MountError, StoreLockedError, in_words
from kvfs.store import holder_of, open_store
from kvfs.store.keeping import DEFAULT, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.figures import Figures
    from kvfs.fuse import Session
    from kvfs.fuse.pace import Pacing
    from kvfs.metrics import Address, Exporter
    from kvfs.store import Store

DYING = 300.0
"""Seconds for a daemon whose mount is gone to finish."""
_QUIETLY = 2.0  # seconds to wait for it without a word
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_log = logging.getLogger(__name__)


def do_nothing() -> None:
    """Stand for what nobody wants to be told."""


class MountOptions(NamedTuple):
    """How to mount.

    `at` is a moment of the past, to be read only; `busy_poll` lets the daemon look for requests, or share a CPU, before it
    sleeps; `durability` is "fsync" or "always"; `checkpoint_every` is as for
    `open_store`, and so are `keep_history` and `compact`; `metrics` is where those are served;
    `options` go to FUSE as they are.
    `uid`, `gid` and `umask` are what all nodes show instead of their owners and modes.
    """

    read_only: bool = False
    at: str | None = None
    busy_poll: bool = True
    durability: str = "fsync"
    checkpoint_every: int | None = None
    keep_history: str | None = None
    compact: Policy = DEFAULT
    metrics: Address | None = None
    options: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None


def is_stale(mountpoint: str) -> bool:
    """Tell whether the daemon of `mountpoint` is gone, and say so if that takes long.

    In a thread, since who asks a mount that hangs cannot be interrupted.
    """
    answers: list[bool] = []
    thread = threading.Thread(
        target=lambda: answers.append(mounts.is_stale(mountpoint)), daemon=True
    )
    thread.start()
    thread.join(_QUIETLY)
    if thread.is_alive():
        _log.warning(
            "waiting for the daemon of %s, which does not answer; without it: kvfs unmount --lazy %s",
            *(mountpoint, mountpoint),
        )
        thread.join()
    return answers == [True]


def check(store: str, mountpoint: str) -> None:
    """Raise `MountError` if `store` cannot be mounted at `mountpoint`; clear a stale mount."""
    if not os.path.exists("/dev/fuse"):
        raise MountError("there is no /dev/fuse here: load the kernel module with: modprobe fuse")
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise MountError("fusermount3 is not installed; install the package fuse3")
    if is_stale(mountpoint):
        mounts.unmount(mountpoint, lazy=True)
    try:
        names = os.listdir(mountpoint)
    except FileNotFoundError:
        message = f"mountpoint {mountpoint} does not exist; make it with: mkdir -p {mountpoint}"
        raise MountError(message, errno.ENOENT) from None
    except NotADirectoryError:
        message = f"mountpoint {mountpoint} is not a directory"
        raise MountError(message, errno.ENOTDIR) from None
    inside = os.path.realpath(mountpoint) + "/"
    if inside.startswith(os.path.realpath(store) + "/"):
        message = f"mountpoint {mountpoint} is inside the store; choose a directory outside"
        raise MountError(message, errno.EINVAL)
    mount = mounts.find(mountpoint)
    if mount:
        message = f"{mountpoint} has the store {mount.store} mounted already"
        raise MountError(message, errno.EBUSY)
    if names:
        message = f"mountpoint {mountpoint} is not empty; choose an empty directory"
        raise MountError(message, errno.ENOTEMPTY)


def run(
    store: str,
    mountpoint: str,
    options: MountOptions,
    ready: Callable[[], object] = do_nothing,
    stopping: Callable[[], object] = do_nothing,
) -> None:
    """Serve `store` at `mountpoint` until it is unmounted or a signal says to end.

    `ready` is called once the mount is there, `stopping` when it ends. Raises
    `MountError` or what the store says.
    """
    from kvfs.fuse import pace

    check(store, mountpoint)
    where = os.path.realpath(mountpoint)
    with ExitStack() as stack:
        pacing = stack.enter_context(pace.prepare(busy=options.busy_poll))
        exporter = _exporter(stack, options)
        opened = stack.enter_context(_open(store, where, options))
        held = stack.pop_all()
    with _ended_by_signals() as ending, held:
        _serve(opened, where, options, (ready, stopping), ending, pacing, exporter)


def _open(store: str, where: str, options: MountOptions) -> Store:
    """Open `store`, once a daemon whose mount is gone has let go of it."""

    def opened(wait: float) -> Store:
        return open_store(
            store,
            create=False,
            read_only=options.read_only,
            mountpoint=where,
            wait=wait,
            at=options.at,
            checkpoint_every=options.checkpoint_every,
            keep_history=options.keep_history,
            compact=options.compact,
        )

    patience = _patience(store)
    if not patience or options.read_only:
        return opened(0)
    try:
        return opened(_QUIETLY)
    except StoreLockedError:
        holder = holder_of(Disk(), store)
        _log.warning("waiting for %s to end; its mount is gone, and files are open in it", holder)
        return opened(patience)


def _patience(store: str) -> float:
    """Return how long to wait for the lock: only for a daemon that is on its way out."""
    holder = holder_of(Disk(), store) if os.path.isdir(store) else None
    if holder is None or holder.mountpoint is None:
        return 0.0
    mount = mounts.find(holder.mountpoint)
    gone = mount is None or mount.store != os.path.abspath(store)
    # One whose mount has not been there yet is on its way in.
    return DYING if gone and holder.mounted else 0.0


class _Ending:
    """What the signals that end the daemon do: nobody cuts short how it closes the store."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.session: Session | None = None

    def note(self, number: int, _frame: object) -> None:
        self.signal = number
        if self.session is not None:
            self.session.end()

    def end(self, session: Session) -> None:
        """Let signals end `session`, also one that has come before."""
        self.session = session
        if self.signal is not None:
            session.end()


@contextmanager
def _ended_by_signals() -> Iterator[_Ending]:
    ending = _Ending()
    handlers = {number: signal.signal(number, ending.note) for number in _SIGNALS}
    try:
        yield ending
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _serve(
    store: Store,
    where: str,
    options: MountOptions,
    witnesses: tuple[Callable[[], object], Callable[[], object]],
    ending: _Ending,
    pacing: Pacing,
    exporter: Exporter | None,
) -> None:
    from kvfs.fuse import Connection, Counters, Session

    ready, stopping = witnesses
    connection = Connection.mount(where, mounts.fsname(store.path), "kvfs", _fuse_options(options))
    gone = False
    try:
        # Root may be let in by an owner who lets in nobody else.
        allowed = frozenset({0, os.geteuid()}) if "allow_root" in options.options else None
        # Who collects metrics wants to know of every request.
        counters = Counters(1) if exporter else Counters()
        session = Session(connection, store.lock, pacing.at(connection.fd), allowed, counters)
        session.shake_hands()
        ending.end(session)
        gone = _converse(store, session, where, options, ready, exporter)
        if ending.signal is not None:
            _log.info("ending on signal %d", ending.signal)
    finally:
        stopping()
        ending.session = None
        connection.close()
        if not gone and mounts.find(where) is not None:
            mounts.unmount(where, lazy=True)
    _log.info("unmounted")


def _converse(
    store: Store,
    session: Session,
    where: str,
    options: MountOptions,
    ready: Callable[[], object],
    exporter: Exporter | None,
) -> bool:
    """Serve until the mount is gone (True), or is to be ended (False)."""
    from kvfs.filesystem import Filesystem, Syncer, errno_of, showing

    syncer = Syncer(store, session.defer)
    filesystem = Filesystem(
        store,
        session,
        syncer,
        always=options.durability == "always",
        atime="noatime" not in options.options,
        show=showing(options.uid, options.gid, options.umask),
    )

    def every_second() -> None:
        filesystem.tick()
        if filesystem.is_followed and mounts.find(where) is None:
            filesystem.end_following()  # it was unmounted though they have it open: let them go

    syncer.also = every_second
    if not options.read_only:
        syncer.expired = filesystem.forget_expired
    syncer.start()
    snapshot = filesystem.statistics.snapshot
    control = None
    try:
        if exporter:
            exporter.start(snapshot)
        control = _listen(store, where, options, snapshot)
        if not options.read_only:
            store.note_mounted()
        ready()
        return session.serve(filesystem.handlers(), errno_of, filesystem.apart())
    finally:
        if control:
            control.close()
        if exporter:
            exporter.close()
        filesystem.stop()
        syncer.stop()


def _exporter(stack: ExitStack, options: MountOptions) -> Exporter | None:
    """Return what will serve metrics, if they are wanted: an address that is taken is no mount."""
    if options.metrics is None:
        return None
    from kvfs.metrics import Exporter

    return stack.enter_context(closing(Exporter(options.metrics)))


def _listen(
    store: Store, where: str, options: MountOptions, snapshot: Callable[[], Figures]
) -> Control | None:
    """Listen for requests about `store`; a mount is worth having without, as on a full disk."""
    mount = mounts.find(where)
    facts = {
        "device": mount.device if mount else 0,
        "since": time.time_ns(),
        "version": __version__,
        "format": store.config.format,
        "read_only": options.read_only,
        "at": options.at,
        "durability": options.durability,
    }
    try:
        return Control(store, Disk(), facts, snapshot)
    except OSError as error:
        _log.warning("kvfs compact, status and top will not reach this mount: %s", in_words(error))
        return None


def _fuse_options(options: MountOptions) -> set[str]:
    """Return the options of the mount.

    The kernel is to check permissions, but for a mount that only root is let
    into: who may do everything need not be asked about, at each name that is
    made or removed. Where other owners or modes are shown, those count.
    """
    words = {"allow_other" if word == "allow_root" else word for word in options.options}
    if options.read_only:
        words.add("ro")
    shown = (options.uid, options.gid, options.umask) != (None, None, None)
    if os.geteuid() != 0 or "allow_other" in words or shown:
        words.add("default_permissions")
    return words
