"""`store.toml`: what a store is, fixed when it is made."""

from __future__ import annotations

import os
import tomllib
from typing import NamedTuple

from kvfs.codec import BinaryCodec, Codec, TextCodec
from kvfs.errors import ConfigError, NewerFormatError, NotAStoreError
from kvfs.retention import Retention

FILE = "store.toml"
VERSION = 1
DEFAULT_SEGMENT_SIZE = 64 * 1024 * 1024
DEFAULT_HISTORY = "1d,1GiB"
_MAX_SEGMENT_SIZE = 2**32 - 1
_ID_BYTES = 16
_MAX_TIME = 2**62
FORMATS = ("binary", "text")


class Config(NamedTuple):
    """The content of `store.toml`.

    `created` is in nanoseconds since 1970; `max_segment_size` in bytes.
    `keep_history` is how much of its past the store keeps, as `Retention` parses it.
    """

    format: str
    max_segment_size: int
    id: bytes
    created: int
    keep_history: str = DEFAULT_HISTORY

    def codec(self) -> Codec:
        """Return the codec of the store."""
        return BinaryCodec(self.id) if self.format == "binary" else TextCodec(self.created)


def make(
    form: str, max_segment_size: int, created: int, keep_history: str = DEFAULT_HISTORY
) -> Config:
    """Return the configuration of a new store.

    Raises `ConfigError` for a format or a size that cannot be.
    """
    store_id = os.urandom(_ID_BYTES)
    return checked(Config(form, int(max_segment_size), store_id, created, keep_history))


def dump(config: Config) -> bytes:
    """Return the bytes of `store.toml`."""
    return (
        "# A kvfs store. Only keep_history may change.\n"
        f'format = "{config.format}"\n'
        f"version = {VERSION}\n"
        f"max_segment_size = {config.max_segment_size}\n"
        f'id = "{config.id.hex()}"\n'
        f"created = {config.created}\n"
        f'keep_history = "{config.keep_history}"\n'
    ).encode()


def load(data: bytes, path: str) -> Config:
    """Return what the bytes of the `store.toml` at `path` say.

    Raises `NewerFormatError` where a later version wrote them, `ConfigError`
    where they cannot be understood.
    """
    try:
        values = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # of UTF-8, of TOML, of numbers
        message = f"{path} is damaged: {error}"
        raise ConfigError(message) from None
    version = values.get("version")
    if type(version) is not int or version < VERSION:
        message = f"{path} is damaged: version is {version!r}"
        raise ConfigError(message)
    if version > VERSION:
        message = (
            f"{path}: format version {version} is newer than this kvfs understands"
            f" ({VERSION}); use a newer kvfs"
        )
        raise NewerFormatError(message)
    try:
        store_id = bytes.fromhex(values["id"])
        config = Config(
            *(values["format"], values["max_segment_size"], store_id, values["created"]),
            values.get("keep_history", DEFAULT_HISTORY),
        )
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path} is damaged: {error}"
        raise ConfigError(message) from None
    numbers = (config.max_segment_size, config.created)
    kinds = all(type(number) is int for number in numbers) and type(config.keep_history) is str
    if len(store_id) != _ID_BYTES or not kinds or not 0 <= config.created < _MAX_TIME:
        message = f"{path} is damaged: a value is not of its kind"
        raise ConfigError(message)
    try:
        return checked(config)
    except ConfigError as error:
        message = f"{path} is damaged: {error}"
        raise ConfigError(message) from None


def find(path: str, names: list[str]) -> None:
    """Raise `NotAStoreError` unless a directory at `path` holding `names` is a store."""
    if FILE not in names:
        message = f"{path} is no kvfs store (it has no {FILE}); make one with: kvfs init {path}"
        if "segments" in names:
            message = (
                f"{path} has lost its {FILE}; bring that back from a copy of the store,"
                f" or let it be made anew from the segments with: kvfs repair {path}"
            )
        elif names:
            message = f"{path} is no kvfs store: it has no {FILE}"
        raise NotAStoreError(message)


def config_path(store: str) -> str:
    """Return the path of the configuration of the store at `store`."""
    return os.path.join(store, FILE)


def checked(config: Config) -> Config:
    """Return `config`. Raises `ConfigError` if it cannot be."""
    if config.format not in FORMATS:
        message = f"format {config.format!r} is none of {', '.join(FORMATS)}"
        raise ConfigError(message)
    least = config.codec().min_segment_size
    if not least <= config.max_segment_size <= _MAX_SEGMENT_SIZE:
        message = (
            f"max_segment_size {config.max_segment_size} is not between {least}"
            f" and {_MAX_SEGMENT_SIZE} bytes, as the {config.format} format needs"
        )
        raise ConfigError(message)
    Retention.parse(config.keep_history)
    return config
