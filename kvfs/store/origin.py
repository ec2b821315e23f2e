"""What the segments of a store say of it, where `store.toml` is lost or another's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from kvfs import config as store_config
from kvfs.codec import BadRecordError, BinaryCodec, TextCodec
from kvfs.config import DEFAULT_SEGMENT_SIZE, Config
from kvfs.errors import ConfigError, KvfsError
from kvfs.recovery import keep
from kvfs.segment import number_of

if TYPE_CHECKING:
    from kvfs.disk import Disk

_HEAD = 1024 * 1024
"""Bytes at the beginning of a segment that tell what it is."""
_NO_ID = bytes(16)  # lines of text belong to no store


def check_origin(disk: Disk, path: str, config: Config) -> None:
    """Raise `ConfigError` if no segment is of the store of `config`, and some are of another."""
    found = _ids(disk, path)
    is_binary = config.format == "binary"
    its_own = config.id in found if is_binary else _is_text(_heads(disk, path))
    if found and not its_own:
        file = store_config.config_path(path)
        message = (
            f"{file} is of another store: it says {config.format}, id {config.id.hex()}, but the"
            f" segments are binary, id {min(found).hex()}; bring back their own, or move this one"
            f" away and let it be made anew with: kvfs repair {path}"
        )
        raise ConfigError(message)


def rebuild(disk: Disk, path: str, error: KvfsError) -> Config:
    """Return what the segments of the store at `path` say of it.

    Raises `error`, which says that `store.toml` is of no use, if they say nothing.
    """
    found = _ids(disk, path)
    heads = _heads(disk, path)
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
    raise error


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
        names = sorted(disk.list(directory))
    except OSError:
        return []
    for name in names:
        number = number_of(name)
        if number is None:
            continue
        try:
            fd = disk.open(os.path.join(directory, name), os.O_RDONLY)
        except OSError:
            continue
        try:
            found.append((number, disk.read(fd, _HEAD, 0), disk.size(fd)))
        except OSError:
            continue
        finally:
            disk.close(fd)
    return found


def _ids(disk: Disk, path: str) -> set[bytes]:
    """Return the ids of the stores that the segments say they are of."""
    found = set()
    for _, head, _ in _heads(disk, path):
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
