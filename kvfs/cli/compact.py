"""What `kvfs compact` does and prints."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from kvfs.cli.access import WAIT
from kvfs.cli.output import print_json
from kvfs.cli.progress import percent
from kvfs.control import ask_to_compact
from kvfs.disk import Disk
from kvfs.errors import KvfsError
from kvfs.retention import Retention
from kvfs.store import holder_of, open_store
from kvfs.store.opening import read_config
from kvfs.store.rewrite import compact_text
from kvfs.units import show_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvfs.config import Config


def show_compact(store: str, keep_history: str | None, *, as_json: bool) -> None:
    """Compact the store, beside a mount or alone, and print what that gave back.

    Raises `KvfsError` with what was left undone.
    """
    store = os.path.abspath(store)
    retention = None if keep_history is None else Retention.parse(keep_history)
    disk = Disk()
    config = read_config(store, disk)
    before = _bytes(disk, store)
    with percent("compacting") as step:
        problem = _compact(disk, store, config, keep_history, retention, step)
    after = _bytes(disk, store)
    if as_json:
        print_json({"before": before, "after": after, "left": problem})
    else:
        sys.stdout.write(f"{store}: {show_size(before)} before, {show_size(after)} now\n")
    if problem:
        message = f"not all could be done: {problem}"
        raise KvfsError(message)


def _compact(
    disk: Disk,
    path: str,
    config: Config,
    keep_history: str | None,
    retention: Retention | None,
    step: Callable[[int, int], None],
) -> str | None:
    if config.format == "text":
        if not (retention or Retention.parse(config.keep_history)).is_all:
            compact_text(disk, path, config)
        return None
    holder = holder_of(disk, path)
    if holder and holder.mounted:
        return ask_to_compact(path, keep_history, step)
    with open_store(path, create=False, wait=WAIT) as store:
        return store.compact(retention, step)


def _bytes(disk: Disk, path: str) -> int:
    """Return how many bytes segments and checkpoints take."""
    total = 0
    for name in ("segments", "checkpoints"):
        directory = os.path.join(path, name)
        for file in disk.list(directory):
            try:
                total += disk.stat(os.path.join(directory, file)).st_size
            except FileNotFoundError:
                continue
    return total
