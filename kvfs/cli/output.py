"""Standard output, and who reads it."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

_NAME = "standard output"


class _Standard(io.FileIO):
    """Standard output; what goes wrong in writing it says so."""

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OSError(error.errno, error.strerror, _NAME) from None


def prepare() -> None:
    """Let errors of standard output name it, and no name of a key or a file be one."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Standard(sys.stdout.fileno(), "wb", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="backslashreplace",
            line_buffering=sys.stdout.line_buffering,
        )


@contextmanager
def printing() -> Iterator[None]:
    """Write out what is printed within; that nobody reads it to its end is no failure.

    Raises `OSError` where it cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        _discard()
    except KeyboardInterrupt:
        _discard()  # who reads may wait for the end of this
        raise
    except OSError as error:
        if error.filename == _NAME:
            _discard()  # or Python tries again when it ends, and complains itself
        raise


def _discard() -> None:
    """Let nobody have what was not written yet."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def print_json(values: dict[str, Any], indent: int | None = 2) -> None:
    """Print one JSON object; without `indent` in one line, as of many.

    It is UTF-8, whatever the locale says.
    """
    import json

    # What is no text, as a path may be, becomes an escape that is JSON too.
    text = json.dumps(values, indent=indent, ensure_ascii=False) + "\n"
    sys.stdout.buffer.write(text.encode(errors="backslashreplace"))


def moment(time: float) -> str:
    """Return a time (ns since 1970) to the second, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time / 1e9, UTC).isoformat(" ", "seconds")


def when(time: int) -> str:
    """Return a time (ns since 1970) in the local time zone."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time / 1e9, UTC).astimezone().isoformat(" ", "milliseconds")


def colourful() -> bool:
    """Tell whether standard output is a terminal that colours are welcome on."""
    welcome = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return welcome and sys.stdout.isatty()


def fail(message: str, status: int) -> NoReturn:
    """Exit with `status`, and one line on standard error that says why."""
    line = " ".join(message.split())
    if sys.stderr is not None:
        sys.stderr.write(f"kvfs: {line}\n")
    sys.exit(status)
