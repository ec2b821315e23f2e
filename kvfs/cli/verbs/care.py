"""The verbs that look after a store."""

from __future__ import annotations

import sys

import click

from kvfs.cli.arguments import HISTORY, JSON, PATH, examples


@click.command(
    "check",
    epilog=examples(
        "kvfs check store", "kvfs check store --json", "kvfs check store || kvfs repair store"
    ),
)
@click.argument("store", type=PATH)
@JSON
def check_command(store: str, as_json: bool) -> None:
    """Read and verify everything.

    Exits with 1 if anything is damaged. Nothing is changed, and the store may
    be mounted.
    """
    from kvfs.cli.report import show_check

    if not show_check(store, as_json=as_json):
        sys.exit(1)


@click.command(
    "compact",
    epilog=examples("kvfs compact store", "kvfs compact store --keep-history 0"),
)
@click.argument("store", type=PATH)
@click.option("--keep-history", metavar="HISTORY", help=f"{HISTORY} Without: what STORE says.")
@JSON
def compact_command(store: str, keep_history: str | None, as_json: bool) -> None:
    """Give back the space of what is dead, beside a mount or alone."""
    from kvfs.cli.compact import show_compact

    show_compact(store, keep_history, as_json=as_json)


@click.command("repair", epilog=examples("kvfs repair store", "kvfs repair store --json"))
@click.argument("store", type=PATH)
@JSON
def repair_command(store: str, as_json: bool) -> None:
    """Salvage a damaged store, and list what is lost.

    The store must not be mounted. Every record that still verifies is kept; the
    damaged segments stay in quarantine/ as they were.
    """
    from kvfs.cli.report import show_repair

    show_repair(store, as_json=as_json)
