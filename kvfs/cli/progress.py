"""How far a long work has come: a bar on a terminal, nothing elsewhere.

It is on standard error, and not before the work has taken a while: then most
works are done, and what draws it need not be imported.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

PATIENCE = 0.3
"""Seconds that people wait without a word."""


class _Bar:
    """The bar of one work."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._due = time.monotonic() + PATIENCE
        self._drawn: Progress | None = None

    def show(self, done: int, total: int | None) -> None:
        """Show that `done` of `total` is done, of an unknown one without."""
        if self._drawn is None:
            if time.monotonic() < self._due:
                return
            self._drawn = _draw()
            self._drawn.add_task(self._what, total=total)
        self._drawn.update(self._drawn.task_ids[0], completed=done, total=total)

    def remove(self) -> None:
        """Leave nothing of it."""
        if self._drawn is not None:
            self._drawn.stop()


def _draw() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    drawn = Progress(console=Console(stderr=True), transient=True)
    drawn.start()
    return drawn


@contextmanager
def percent(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far `what` has come; what it yields takes what is done, and all there is to do."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    bar = _Bar(what)
    try:
        yield bar.show
    finally:
        bar.remove()


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far `what` has come of `total`, if that is known; call what it yields with each step."""
    done = 0
    with percent(what) as show:

        def advance(step: int) -> None:
            nonlocal done
            done += step
            show(done, total)

        yield advance
