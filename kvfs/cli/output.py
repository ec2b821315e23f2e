"""Standard output, and who reads it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def printing() -> Iterator[None]:
    """Write out what is printed within; that nobody reads it to its end is no failure.

    Raises `OSError` where it cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def quoted(key: bytes) -> str:
    """Return `key` in quotes, with escapes for what is no text."""
    return repr(key.decode(errors="backslashreplace"))


def when(time: int) -> str:
    """Return a time (ns since 1970) in the local time zone."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time / 1e9, UTC).astimezone().isoformat(" ", "milliseconds")


def fail(message: str, status: int) -> NoReturn:
    """Exit with `status`, and one line on standard error that says why."""
    line = " ".join(message.split())
    if sys.stderr is not None:
        sys.stderr.write(f"kvfs: {line}\n")
    sys.exit(status)
