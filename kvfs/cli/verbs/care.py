"""The verbs that look after a store."""

from __future__ import annotations

import sys

import click

from kvfs.cli.arguments import HISTORY, JSON, PATH


@click.command("check")
@click.argument("store", type=PATH)
@JSON
def check_command(store: str, as_json: bool) -> None:
    """Read and verify everything; exit with 1 if anything is damaged."""
    from kvfs.cli.report import show_check

    if not show_check(store, as_json=as_json):
        sys.exit(1)


@click.command("compact")
@click.argument("store", type=PATH)
@click.option("--keep-history", metavar="HOW MUCH", help=f"{HISTORY} Without: what STORE says.")
@JSON
def compact_command(store: str, keep_history: str | None, as_json: bool) -> None:
    """Give back the space of what is dead, beside a mount or alone."""
    from kvfs.cli.compact import show_compact

    show_compact(store, keep_history, as_json=as_json)


@click.command("repair")
@click.argument("store", type=PATH)
@JSON
def repair_command(store: str, as_json: bool) -> None:
    """Salvage a damaged store that is not mounted, and list what is lost.

    Every record that still verifies is kept; the damaged segments stay in
    quarantine/ as they were.
    """
    from kvfs.cli.report import show_repair

    show_repair(store, as_json=as_json)
