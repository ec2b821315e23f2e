"""What `kvfs watch` prints, for people and in JSON Lines."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from kvfs.cli.output import when
from kvfs.errors import KvfsError, PastGoneError, quoted
from kvfs.store.feed import FOREVER, Feed
from kvfs.store.listing import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.store.feed import Change


class Watching(NamedTuple):
    """What to show: the options of `kvfs watch`."""

    prefix: bytes
    from_: int | None
    values: bool
    most: int | None
    timeout: float | None


def show_changes(store: str, wanted: Watching, *, as_json: bool) -> None:
    """Print changes as they come, each at once and whole, until there is enough of them or of time.

    Signals end it, and so does that nobody reads what is printed.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    shown = 0
    path = os.path.abspath(store)
    with Feed(path, wanted.from_, values=wanted.values, until=sys.stdout.fileno()) as feed:
        for change in _wanted(feed, wanted):
            line = told(change, values=wanted.values) if as_json else _line(change)
            _print(line.encode(errors="backslashreplace") + b"\n")
            shown += 1
            if shown == wanted.most:
                return
        if wanted.most is not None and not feed.stopped:
            message = f"{shown} of {wanted.most} changes came within {wanted.timeout} s"
            raise KvfsError(message, errno.ETIMEDOUT)


def _wanted(feed: Feed, wanted: Watching) -> Iterator[Change]:
    deadline = time.monotonic() + (FOREVER if wanted.timeout is None else wanted.timeout)
    try:
        while change := feed.next(max(deadline - time.monotonic(), 0)):
            if change.is_below(wanted.prefix):
                yield change
    except PastGoneError as error:
        message = f"{error}; go on with --from and a number that is kept"
        raise PastGoneError(message) from None


def _print(line: bytes) -> None:
    view = memoryview(line)
    while view:
        view = view[os.write(sys.stdout.fileno(), view) :]


def _end(_number: int, _frame: object) -> None:
    """End at once, and quietly: whoever goes on later knows what was printed last."""
    raise SystemExit(0)


def _line(change: Change) -> str:
    words = [f"{change.sequence:>8}", when(change.time), f"{change.what:<8}", quoted(change.key)]
    if change.new is not None:
        words.append(f"to {quoted(change.new)}")
    if change.directory:
        words.append("(directory)")
    if change.size is not None:
        words.append(f"{change.size} bytes")
    if change.offset is not None:
        words.append(f"at {change.offset}")
    if attrs := change.details.get("attrs"):
        words.append(" ".join(attrs))
    return "  ".join(words[:3]) + "  " + " ".join(words[3:])
