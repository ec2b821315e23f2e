"""The verbs that move keys in and out."""

from __future__ import annotations

import sys

import click

from kvfs.cli.arguments import AT, FILE, JSON, KEY, PATH, examples
from kvfs.transfer.formats import EXPORTS, FORMATS, NO_STREAMS, STREAMS, of_input, of_output


@click.command(
    "export",
    epilog=examples(
        "kvfs export store keys.jsonl",
        "kvfs export store - | gzip > keys.jsonl.gz",
        "kvfs export store old.jsonl --at '1 day ago'",
    ),
)
@click.argument("store", type=PATH)
@click.argument("file", type=FILE)
@click.option("--format", "form", type=click.Choice(EXPORTS), help="Without: what FILE is called.")
@AT
@JSON
def export_command(store: str, file: str, form: str | None, at: str | None, as_json: bool) -> None:
    """Write STORE to FILE, as JSON Lines or as files.

    JSON Lines have keys and values, archives and directories all that a mount shows.

    FILE.tar (.tar.gz, .tar.xz, .tar.bz2) is an archive, DIRECTORY/ a directory, - standard output.
    """
    from kvfs.cli.transfer import export_to

    form = form or of_output(file)
    if file == "-" and form not in STREAMS:
        message = f"{form} cannot be written to standard output"
        raise click.UsageError(message)
    export_to(store, file, form, at, as_json=as_json)


@click.command(
    "import",
    epilog=examples(
        "kvfs import store keys.jsonl",
        "zcat keys.jsonl.gz | kvfs import store -",
    ),
)
@click.argument("store", type=PATH)
@click.argument("file", type=FILE)
@click.option("--format", "form", type=click.Choice(tuple(FORMATS)), help="Without: what FILE is.")
@click.option("--prefix", type=KEY, default=b"", help="What all keys get before them.")
@click.option("--table", help="Which table of an SQLite file, or database of Redis.")
@click.option("--key-column", metavar="NAME", help="Which column of an SQLite table has the keys.")
@click.option("--value-column", metavar="NAME", help="Which column has the values.")
@click.option("--skip-others", is_flag=True, help="Pass over what is no key with a value.")
@JSON
def import_command(
    store: str,
    file: str,
    form: str | None,
    prefix: bytes,
    table: str | None,
    key_column: str | None,
    value_column: str | None,
    skip_others: bool,
    as_json: bool,
) -> None:
    """Bring what is in FILE into STORE.

    It is as export or another database writes it.

    FILE is read through first: a mistake in it changes nothing. JSON Lines from standard
    input (-) are put as they come.
    """
    from kvfs.cli.transfer import import_from
    from kvfs.transfer.entries import Source

    if file == "-":
        form = form or "jsonl"
        if form in NO_STREAMS:
            message = f"{form} cannot be read from standard input"
            raise click.UsageError(message)
    name = "standard input" if file == "-" else file
    source = Source(file, name, table, key_column, value_column, skip_others)
    import_from(store, source, form or of_input(file), prefix, as_json=as_json)


@click.command(
    "backup",
    epilog=examples("kvfs backup store /backups/store", "kvfs backup store /backups/store --json"),
)
@click.argument("store", type=PATH)
@click.argument("directory", type=PATH)
@JSON
def backup_command(store: str, directory: str, as_json: bool) -> None:
    """Copy what is new in STORE to the backup in DIRECTORY.

    The store may be mounted. The copy is a store itself: mount it with
    --read-only, so that the next backup can go on.
    """
    from kvfs.cli.report import show_backup

    show_backup(store, directory, as_json=as_json)


@click.command("verify", epilog=examples("kvfs verify /backups/store"))
@click.argument("directory", type=PATH)
@JSON
def verify_command(directory: str, as_json: bool) -> None:
    """Check the backup in DIRECTORY, as check does a store.

    Exits with 1 if anything is damaged.
    """
    from kvfs.cli.report import show_check

    if not show_check(directory, as_json=as_json):
        sys.exit(1)
