"""What `kvfs export` and `kvfs import` do and print."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from kvfs.cli.access import MountedStore, reader, writer
from kvfs.cli.progress import progress
from kvfs.transfer import jsonl
from kvfs.transfer.entries import Pair
from kvfs.transfer.moving import Import, export, put_all, spooled

if TYPE_CHECKING:
    from kvfs.transfer.entries import Counts, Source


def export_to(store: str, file: str, form: str, at: str | None, *, as_json: bool) -> None:
    """Write the store, as it was `at` a moment, to `file` in the format `form`."""
    with reader(store, at) as opened:
        counts = export(opened, file, form, progress)
    # Standard output may be what was exported to.
    _report(counts, as_json=as_json, error=file == "-")


def import_from(store: str, source: Source, form: str, prefix: bytes, *, as_json: bool) -> None:
    """Bring what `source` has in the format `form` into the store."""
    if source.path != "-":
        counts = _import(store, source, form, prefix)
    elif form == "jsonl":
        with writer(store) as target:
            lines = jsonl.read_lines(source, sys.stdin.buffer)
            counts = put_all(
                (Pair(prefix + key, value) for key, value in lines), target, lambda _: None
            )
    else:
        with spooled() as source.path:
            counts = _import(store, source, form, prefix)
    _report(counts, as_json=as_json)


def _import(store: str, source: Source, form: str, prefix: bytes) -> Counts:
    read = Import(source, form, prefix)
    with writer(store) as target, progress("importing", read.number) as advance:
        root = target.root if isinstance(target, MountedStore) else None
        return read.run(target, root, advance)


def _report(counts: Counts, *, as_json: bool, error: bool = False) -> None:
    """Print what was moved as JSON, or what was not in one line each."""
    if as_json:
        values = {
            "keys": counts.keys,
            "bytes": counts.bytes,
            "skipped": sum(counts.skipped.values()),
        }
        (sys.stderr if error else sys.stdout).write(json.dumps(values) + "\n")
        return
    if counts.skipped:
        found = [f"{number} {what}" for what, number in sorted(counts.skipped.items())]
        sys.stderr.write(f"kvfs: passed over: {'; '.join(found)}\n")
