"""Lines and tables: with colours and rules on a terminal, plain text elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from kvfs.cli.output import colourful

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence


def show_line(text: str, colour: str | None = None) -> None:
    """Print `text`, in `colour` where colours are welcome."""
    if colour and colourful():
        import click

        text = click.style(text, fg=colour)
    sys.stdout.write(text + "\n")


def show_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str] = ()
) -> None:
    """Print `rows` below the `names` of their columns; `numbers` are to the right of theirs."""
    if sys.stdout.isatty():
        _show_drawn(names, rows, numbers)
        return
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    for row in (names, *rows):
        cells = [
            f"{cell:>{width}}" if name in numbers else f"{cell:{width}}"
            for cell, width, name in zip(row, widths, names, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _show_drawn(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[str]
) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for name in names:
        table.add_column(name, justify="right" if name in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # what users call things is no markup
    sys.stdout.flush()
    Console(highlight=False).print(table)
