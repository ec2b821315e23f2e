"""What `etcdctl get --prefix "" -w json` prints: keys and values in Base64.

One object, or several one after the other, each an answer with `kvs` or a pair
itself. etcd leaves out values that are empty. Versions and leases are left behind.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.transfer.entries import Source

_SPACE = re.compile(r"\s*")


def read(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of the file, which is held in memory. Raises `KvfsError`."""
    with open(source.path, "rb") as file:
        data = file.read()
    for number, found in enumerate(_objects(source, data), 1):
        try:
            for pair in found.get("kvs", ()) if "key" not in found else (found,):
                yield _data(pair["key"]), _data(pair.get("value", ""))
        except (ValueError, KeyError, TypeError, AttributeError):
            what = "no answer of etcd: it has no kvs with key and value in Base64"
            raise source.bad(f"object {number}", what) from None


def _objects(source: Source, data: bytes) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that stand one after the other in `data`."""
    decoder, line = json.JSONDecoder(), 1
    try:
        text = data.decode()
        end, length = _space(text, 0), len(text)
        while end < length:
            line = text.count("\n", 0, end) + 1 if end else 1
            found, end = decoder.raw_decode(text, end)
            if not isinstance(found, dict) or not {"kvs", "header", "key"} & found.keys():
                raise ValueError("this is no answer of etcd")
            yield found
            end = _space(text, end)
    except (ValueError, RecursionError) as error:
        what = "this is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise source.bad(f"from line {line} on", what) from None


def _space(text: str, start: int) -> int:
    found = _SPACE.match(text, start)
    assert found
    return found.end()


def _data(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
