"""What takes too long for the thread that serves, and who is answered when it is done."""

from __future__ import annotations

import errno
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kvfs.errors import KvfsError, PosixError
from kvfs.filesystem.boundary import errno_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator
    from contextlib import AbstractContextManager

    from kvfs.fuse import Header, Reply, Session

_TURN = 0.0005
"""Seconds until the thread that serves has its turn while another computes; Python's own are ten times as many."""
_interval = sys.getswitchinterval()
_EXPECTED = (errno.EINVAL, errno.EEXIST, errno.ENOENT)


class NotYetError(Exception):
    """Raised in a handler: `work` is to be done before the request can be answered.

    `work` runs in another thread, without any lock, and once for all who wait
    for the same `key`; then `done` gets what it returned, and `then`, which
    answers the request; without, the request is handled once more. Both have
    the lock, and `then` may raise another of these, with a `then` too.
    """

    def __init__(
        self,
        key: Hashable,
        work: Callable[[], Any],
        done: Callable[[Any], object],
        then: Callable[[Any], Reply] | None = None,
    ) -> None:
        """Say what is to be done."""
        super().__init__(key)
        self.key = key
        self.work = work
        self.done = done
        self.then = then


class Later:
    """Does such work, and answers those who wait for it."""

    def __init__(self, session: Session, lock: AbstractContextManager[object]) -> None:
        """Answer by `session`; `lock` is that of its handlers."""
        self._session = session
        self._lock = lock
        self._waiting: dict[Hashable, list[tuple[Header, Callable[[Any], Reply]]]] = {}

    def stop(self) -> None:
        """Answer nobody any more; what is being done comes to its end, and to its `done`."""
        with self._lock:
            self._waiting.clear()

    def handle(self, header: Header, body: memoryview, handler: Any) -> Reply:
        """Return what `handler` answers, or None if that comes later."""
        try:
            reply: Reply = handler(header, body)
        except NotYetError as error:
            kept = body.tobytes()
            self._begin(
                header,
                error,
                error.then or (lambda _result: self.handle(header, memoryview(kept), handler)),
            )
            return None
        return reply

    def _begin(self, header: Header, error: NotYetError, then: Callable[[Any], Reply]) -> None:
        waiting = self._waiting.get(error.key)
        if waiting is None:
            thread = threading.Thread(
                target=self._run, args=(error,), name="kvfs-past", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                raise PosixError(errno.EAGAIN) from None
            waiting = self._waiting[error.key] = []
        waiting.append((header, then))

    def _run(self, error: NotYetError) -> None:
        try:
            with _taking_turns():
                result = error.work()
            with self._lock:
                error.done(result)
                for header, then in self._waiting.pop(error.key, ()):
                    self._answer(header, then, result)
        except Exception as failure:  # noqa: BLE001 - whatever it is, those who wait are answered
            with self._lock:
                for header, _ in self._waiting.pop(error.key, ()):
                    self._refuse(header, failure)

    def _answer(self, header: Header, then: Callable[[Any], Reply], result: Any) -> None:
        try:
            reply = then(result)
        except NotYetError as more:
            self._begin(header, more, more.then or then)
        except Exception as failure:  # noqa: BLE001 - as above
            self._refuse(header, failure)
        else:
            if reply is not None:
                self._session.reply(header.unique, reply)

    def _refuse(self, header: Header, failure: Exception) -> None:
        self._session.answer(header.unique, errno_of(header.opcode, failure))


def alone(header: Header, work: Callable[[], Any], then: Callable[[Any], Reply]) -> NotYetError:
    """Return what to raise for `work` which nobody else waits for.

    A name that cannot be, or is taken, or is gone, is for who asked and for nobody else.
    """

    def quietly() -> Any:
        try:
            return work()
        except KvfsError as error:
            if error.errno in _EXPECTED:
                raise PosixError(error.errno) from None
            raise

    return NotYetError(("alone", header.unique), quietly, lambda _made: None, then)


_computing = 0
_counting = threading.Lock()


@contextmanager
def _taking_turns() -> Iterator[None]:
    """Let other threads have their turn sooner while this one computes."""
    global _computing  # noqa: PLW0603 - as is what it counts for
    with _counting:
        _computing += 1
        sys.setswitchinterval(_TURN)
    try:
        yield
    finally:
        with _counting:
            _computing -= 1
            if not _computing:
                sys.setswitchinterval(_interval)
