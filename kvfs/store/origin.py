"""What the segments of a store say of it, where `store.toml` is lost or another's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvfs import config as store_config
from kvfs.codec import BadRecordError, BinaryCodec, TextCodec
from kvfs.config import DEFAULT_SEGMENT_SIZE, Config
from kvfs.errors import ConfigError, KvfsError
from kvfs.recovery import keep
from kvfs.segment import name_of, numbers_of

if TYPE_CHECKING:
    from kvfs.disk import Disk

_HEAD = 1024 * 1024
"""Bytes at the beginning of a segment that tell what it is."""
_BLOCK = 4096
_NO_ID = bytes(16)  # lines of text belong to no store


def check_origin(disk: Disk, path: str, config: Config) -> None:
    """Raise `ConfigError` if no segment is of the store of `config`, and some are of another."""
    heads = _heads(disk, path)
    found, is_text = _ids(heads), _is_text(heads)
    if config.format == "binary":
        of_another = config.id not in found if found else is_text
    else:
        of_another = bool(found) and not is_text
    if of_another:
        file = store_config.config_path(path)
        theirs = f"binary, id {min(found).hex()}" if found else "text"
        message = (
            f"{file} is of another store: it says {config.format}, id {config.id.hex()}, but the"
            f" segments are {theirs}; bring back their own, or move this one"
            f" away and let it be made anew with: kvfs repair {path}"
        )
        raise ConfigError(message)


def rebuild(disk: Disk, path: str, error: KvfsError) -> Config:
    """Return what the segments of the store at `path` say of it.

    Raises `error`, which says why `store.toml` is of no use, if there are none,
    and `ConfigError` if they do not say it.
    """
    heads = _heads(disk, path)
    found = _ids(heads)
    if len(found) > 1:
        message = f"{error}; the segments are of {len(found)} stores, so it cannot be made anew"
        raise ConfigError(message)
    largest = max((size for _, _, size in heads), default=0)
    size = max(DEFAULT_SEGMENT_SIZE, largest)
    for store_id in found:
        codec = BinaryCodec(store_id)
        times = [_first_time(codec, number, head) for number, head, _ in heads]
        created = min((time for time in times if time is not None), default=0)
        return Config("binary", size, store_id, max(created, 0))
    if _is_text(heads):
        return Config("text", size, _NO_ID, disk.stat(path).st_mtime_ns)
    if "segments" not in disk.list(path):
        raise error
    message = (
        f"{store_config.config_path(path)} is lost or damaged, and no segment tells what the store"
        " was; bring it back from a copy of the store"
    )
    raise ConfigError(message)


def replace(disk: Disk, path: str, config: Config) -> None:
    """Let `store.toml` say `config`; what it said is kept in quarantine."""
    file = store_config.config_path(path)
    if os.path.basename(file) in disk.list(path):
        keep(disk, os.path.join(path, "quarantine"), store_config.FILE, disk.read_file(file))
    disk.write_file(file, store_config.dump(config))


def _heads(disk: Disk, path: str) -> list[tuple[int, bytes, int]]:
    """Return number, first bytes and size of each segment that can be read."""
    directory = os.path.join(path, "segments")
    found = []
    try:
        numbers = numbers_of(disk.list(directory))
    except OSError:
        return []  # there is no such directory, so none of a store
    for number in numbers:
        try:
            fd = disk.open(os.path.join(directory, name_of(number)), os.O_RDONLY)
        except OSError:
            continue
        try:
            found.append((number, _head(disk, fd), disk.size(fd)))
        except OSError:
            continue
        finally:
            disk.close(fd)
    return found


def _head(disk: Disk, fd: int) -> bytes:
    """Return the first bytes of the segment; fewer where the disk cannot read them all."""
    try:
        return disk.read(fd, _HEAD, 0)
    except OSError:
        return disk.read(fd, _BLOCK, 0)


def _ids(heads: list[tuple[int, bytes, int]]) -> set[bytes]:
    """Return the ids of the stores that the segments say they are of."""
    found = set()
    for _, head, _ in heads:
        try:
            header = BinaryCodec().parse_header(head)
        except BadRecordError:
            continue
        if header:
            found.add(header.store_id)
    return found


def _is_text(heads: list[tuple[int, bytes, int]]) -> bool:
    """Tell whether any segment begins with a line that is a record."""
    return any(_first_time(TextCodec(), number, head) is not None for number, head, _ in heads)


def _first_time(codec: BinaryCodec | TextCodec, number: int, head: bytes) -> int | None:
    """Return the time of the first record, if there is one that is valid."""
    try:
        return next(
            (found.record.time for found in codec.scan(head, number, codec.header_size)), None
        )
    except BadRecordError:
        return None
