"""The verbs that move keys in and out."""

from __future__ import annotations

import sys

import click

from kvfs.cli.access import reader, writer
from kvfs.cli.arguments import AT, JSON, PATH


@click.command("export")
@click.argument("store", type=PATH)
@click.argument("file", type=PATH)
@AT
def export_command(store: str, file: str, at: str | None) -> None:
    """Write every key and value to the JSON Lines FILE; - is standard output."""
    from kvfs.cli.transfer import export_lines

    with reader(store, at) as source:
        export_lines(source, file)


@click.command("import")
@click.argument("store", type=PATH)
@click.argument("file", type=PATH)
def import_command(store: str, file: str) -> None:
    """Put every key of the JSON Lines FILE, as export writes it; - is standard input."""
    from kvfs.cli.transfer import import_lines

    with writer(store) as target:
        import_lines(target, file)


@click.command("backup")
@click.argument("store", type=PATH)
@click.argument("directory", type=PATH)
@JSON
def backup_command(store: str, directory: str, as_json: bool) -> None:
    """Copy STORE to DIRECTORY, beside a mount or alone; again, only what is new is copied.

    The copy is a store itself: mount it with --read-only, so that the next
    backup can go on.
    """
    from kvfs.cli.report import show_backup

    show_backup(store, directory, as_json=as_json)


@click.command("verify")
@click.argument("directory", metavar="DIRECTORY", type=PATH)
@JSON
def verify_command(directory: str, as_json: bool) -> None:
    """Check a backup, as check does a store; exit with 1 if anything is damaged."""
    from kvfs.cli.report import show_check

    if not show_check(directory, as_json=as_json):
        sys.exit(1)
