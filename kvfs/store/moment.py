"""Moments of the past of a store: after a record, at a time, or as a snapshot has them."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from kvfs.errors import ConfigError, CorruptionError
from kvfs.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.disk import Disk

SNAPSHOTS = "snapshots"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+-]{0,199}")
"""What a snapshot may be called."""

_AGO = " ago"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = 18  # that a number of a record can have


class Moment(NamedTuple):
    """The state of a store up to a record, that included, or to a time; one of the two is None.

    `sequence` is the sequence number of the record, `time` in nanoseconds since 1970.
    A batch belongs to a moment whole, if its first record does.
    """

    sequence: int | None
    time: int | None

    def has(self, sequence: int, time: int) -> bool:
        """Tell whether a record is part of it, if all before it are."""
        if self.sequence is not None:
            return sequence <= self.sequence
        return self.time is None or time <= self.time


def moment_of(when: int | str | datetime | Moment, disk: Disk, path: str) -> Moment:
    """Return the moment that `when` names in the store at `path`.

    A sequence number; a time in ISO 8601, which is local where it says nothing
    else; a time before now, such as `2h ago` or `3 days ago`; or a snapshot.
    Raises `ConfigError`.
    """
    if isinstance(when, Moment):
        return when
    if isinstance(when, datetime):
        when = when.isoformat()
    text = str(when).strip()
    moment = _told(text)
    if moment is None and "/" not in text and text not in {"", ".", ".."}:
        try:
            records, _ = read_snapshot(disk, path, text)
        except (FileNotFoundError, ValueError):
            pass  # nor is it the name of a file
        else:
            return Moment(records - 1, None)
    if moment is None:
        message = (
            f"{text!r} is no moment; say a sequence number, a time such as 2026-11-28T12:30,"
            " how long ago, such as '2h ago', or a snapshot"
        )
        raise ConfigError(message)
    return moment


def is_moment(text: str) -> bool:
    """Tell whether `text` is a moment without any snapshot."""
    return _told(text) is not None


def read_snapshot(disk: Disk, path: str, name: str) -> tuple[int, int]:
    """Return how many records come before the snapshot `name`, and when it was taken.

    Raises `FileNotFoundError` if there is none, `CorruptionError` for what is none.
    """
    file = os.path.join(path, SNAPSHOTS, name)
    words = disk.read_file(file).split()
    if len(words) != 2 or not all(word.isdigit() and len(word) <= _DIGITS + 1 for word in words):  # noqa: PLR2004 - records and time
        message = f"{file} is damaged: it holds no snapshot"
        raise CorruptionError(message)
    return int(words[0]), int(words[1])


def read_snapshots(disk: Disk, path: str) -> Iterator[tuple[str, int, int]]:
    """Yield the name of each snapshot of the store at `path`, and what `read_snapshot` does.

    Raises `CorruptionError` for what is none.
    """
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = disk.list(os.path.join(path, SNAPSHOTS))
    for name in names:
        if NAME.fullmatch(name) and not name.endswith(".tmp"):
            with suppress(FileNotFoundError):
                yield name, *read_snapshot(disk, path, name)


def _told(text: str) -> Moment | None:
    """Return the moment that a number or a time says, if `text` is one."""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return Moment(int(text), None)
    if text.endswith(_AGO) and (ago := parse_duration(text.removesuffix(_AGO))) is not None:
        return Moment(None, max(time.time_ns() - ago, 0))
    try:
        return Moment(None, _nanoseconds(datetime.fromisoformat(text)))
    except (ValueError, OverflowError):
        return None


def _nanoseconds(when: datetime) -> int:
    since = when.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
