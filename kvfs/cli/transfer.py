"""Export to and import from JSON Lines.

Each line is an object with `key` and `value`, both strings in UTF-8; bytes
that are none are under `key_base64` and `value_base64` instead.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import sys
import tempfile
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from kvfs.cli.progress import progress
from kvfs.errors import KvfsError
from kvfs.store.listing import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.cli.access import Writer
    from kvfs.store import Store


def export_lines(store: Store, file: str) -> None:
    """Write every key of `store` to `file`, all or nothing; `-` is standard output."""
    with _output(file) as output, progress("exporting", len(store)) as advance:
        for key, value in store.items():
            line = {**field("key", key), **field("value", value)}
            output.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            advance(1)


def import_lines(store: Writer, file: str) -> None:
    """Put every line of `file`; `-` is standard input.

    A file is read through before the first key is put, so that a mistake in it
    changes nothing. Raises `KvfsError` naming the line.
    """
    if file == "-":
        for key, value in _lines(sys.stdin.buffer, "standard input"):
            store.put(key, value)
        return
    with open(file, "rb") as source:
        count = sum(1 for _ in _lines(source, file))
        source.seek(0)
        with progress("importing", count) as advance:
            for key, value in _lines(source, file):
                store.put(key, value)
                advance(1)


def _lines(source: IO[bytes], name: str) -> Iterator[tuple[bytes, bytes]]:
    for number, line in enumerate(source, 1):
        try:
            values = json.loads(line)
            yield _data(values, "key"), _data(values, "value")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            message = (
                f"{name}, line {number}: not a JSON object with key or key_base64"
                " and value or value_base64"
            )
            raise KvfsError(message) from None


def _data(values: dict[str, Any], name: str) -> bytes:
    if name in values:
        data: bytes = values[name].encode()
        return data
    return base64.b64decode(values[f"{name}_base64"], validate=True)


def _mode(file: str) -> int:
    """Return the permissions of `file`, or those that a new file gets."""
    try:
        return os.stat(file).st_mode & 0o777
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


@contextmanager
def _output(file: str) -> Iterator[IO[bytes]]:
    if file == "-":
        yield sys.stdout.buffer
        return
    file = os.path.realpath(file)
    if os.path.exists(file) and not os.path.isfile(file):
        # A FIFO or a device takes what comes; only a file can be replaced.
        with open(file, "wb") as output:
            yield output
        return
    directory = os.path.dirname(file)
    if not os.path.isdir(directory):
        raise KvfsError(f"{directory}: there is no such directory to export to", errno.ENOENT)
    fd, temporary = tempfile.mkstemp(dir=directory, prefix=f".{os.path.basename(file)}.")
    try:
        with os.fdopen(fd, "wb") as output:
            os.fchmod(fd, _mode(file))
            yield output
            output.flush()
            os.fsync(output.fileno())
        os.rename(temporary, file)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory_fd)
    finally:
        os.close(directory_fd)
