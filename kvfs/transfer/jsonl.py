"""JSON Lines: keys and values.

Each line is an object with `key` and `value`, both strings in UTF-8; bytes
that are none are under `key_base64` and `value_base64` instead.
"""

from __future__ import annotations

import base64
import codecs
import json
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from kvfs.store.listing import field
from kvfs.transfer.entries import Counts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvfs.store import Store
    from kvfs.transfer.entries import Source

_PIECE = 3 * 2**18
"""Bytes of a value that are in memory at once: as many as Base64 has no need to pad."""


def write(store: Store, output: IO[bytes], advance: Callable[[int], object]) -> Counts:
    """Write every key of `store` to `output`."""
    counts = Counts()
    for key in store:
        pieces = store.chunks(key, _PIECE)
        if pieces is None:
            continue
        output.write(_dump(field("key", key))[:-1] + b", ")
        first, second = next(pieces, b""), next(pieces, None)
        if second is None:
            output.write(_dump(field("value", first))[1:])
            counts.bytes += len(first)
        else:
            counts.bytes += _write_large(store, key, chain((first, second), pieces), output)
        output.write(b"\n")
        counts.keys += 1
        advance(1)
    return counts


def _write_large(store: Store, key: bytes, pieces: Iterator[bytes], output: IO[bytes]) -> int:
    """Write a value piece by piece, once it is known whether it is text; return its size."""
    size, is_text = 0, True
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            size += len(piece)
            decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        is_text = False
    output.write(b'"value": "' if is_text else b'"value_base64": "')
    size = 0
    decoder.reset()
    for piece in store.chunks(key, _PIECE) or ():
        size += len(piece)
        shown = _dump(decoder.decode(piece))[1:-1] if is_text else base64.b64encode(piece)
        output.write(shown)
    output.write(b'"}')
    return size


def _dump(value: dict[str, str] | str) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def read(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the file. Raises `KvfsError` naming the line."""
    with open(source.path, "rb") as file:
        yield from read_lines(source, file)


def read_lines(source: Source, file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of an open file. Raises `KvfsError` naming the line."""
    for number, line in enumerate(file, 1):
        try:
            values = json.loads(line)
            yield _data(values, "key"), _data(values, "value")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            what = "not a JSON object with key or key_base64 and value or value_base64"
            raise source.bad(f"line {number}", what) from None


def _data(values: dict[str, Any], name: str) -> bytes:
    if name in values:
        data: bytes = values[name].encode()
        return data
    return base64.b64decode(values[f"{name}_base64"], validate=True)
