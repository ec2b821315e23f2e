"""The verbs about the past of a store."""

from __future__ import annotations

import sys

import click

from kvfs.cli.arguments import JSON, KEY, PATH, WHEN, examples
from kvfs.cli.output import print_json


@click.command(
    "log",
    epilog=examples(
        "kvfs log store",
        "kvfs log store config/port",
        "kvfs log store --json | jq -r 'select(.what == \"delete\").key'",
    ),
)
@click.argument("store", type=PATH)
@click.argument("key", type=KEY, required=False)
@JSON
def log_command(store: str, key: bytes | None, as_json: bool) -> None:
    """Show what was logged, oldest first.

    A line has the sequence number, the time, the owner and the change. With
    KEY, only what happened to it, also under the names that it had before.
    """
    from kvfs.cli.past import show_log

    show_log(store, key, as_json=as_json)


@click.command(
    "diff",
    epilog=examples(
        "kvfs diff store '1 day ago'",
        "kvfs diff store before-upgrade after-upgrade",
        "kvfs diff store 17 --json",
    ),
)
@click.argument("store", type=PATH)
@click.argument("old", metavar="WHEN", type=WHEN)
@click.argument("new", metavar="[WHEN]", type=WHEN, required=False)
@JSON
def diff_command(store: str, old: str, new: str | None, as_json: bool) -> None:
    """Show which keys differ between WHEN and WHEN, or now.

    A key came (+), went (-) or changed (~). WHEN is as for --at: a sequence
    number, a time, how long ago, or a snapshot.
    """
    from kvfs.cli.past import show_diff

    show_diff(store, old, new, as_json=as_json)


@click.command(
    "restore",
    epilog=examples(
        "kvfs restore store config/port --at 17",
        "kvfs restore store config/port config/host --at before-upgrade",
    ),
)
@click.argument("store", type=PATH)
@click.argument("keys", metavar="KEY...", type=KEY, nargs=-1, required=True)
@click.option(
    "--at", type=WHEN, metavar="WHEN", required=True, help="The moment to bring back, as for get."
)
@JSON
def restore_command(store: str, keys: tuple[bytes, ...], at: str, as_json: bool) -> None:
    """Bring each KEY back as it was at WHEN.

    That is its value, its owner and its mode.
    """
    from kvfs.cli.restore import restore as bring_back

    bring_back(store, keys, at)
    if as_json:
        print_json({"restored": len(keys)})


@click.command(
    "undo",
    epilog=examples("kvfs undo store --to '10 min ago'", "kvfs undo store --to before-upgrade"),
)
@click.argument("store", type=PATH)
@click.option(
    "--to", type=WHEN, metavar="WHEN", required=True, help="The moment to go back to, as for get."
)
@JSON
def undo_command(store: str, to: str, as_json: bool) -> None:
    """Let all keys be as they were at WHEN.

    What came since goes, what changed or went is back. It is written like
    anything else, so it can be undone itself. Links, special files and empty
    directories stay as they are.
    """
    from kvfs.cli.restore import undo as go_back

    back, removed = go_back(store, to)
    if as_json:
        print_json({"restored": back, "removed": removed})
    else:
        sys.stdout.write(f"brought back {back} keys, removed {removed}\n")


@click.group(
    "snapshot",
    epilog=examples("kvfs snapshot create store before-upgrade", "kvfs snapshot list store"),
)
def snapshot_command() -> None:
    """Give moments of a store names, for --at and diff."""


@snapshot_command.command("create", epilog=examples("kvfs snapshot create store before-upgrade"))
@click.argument("store", type=PATH)
@click.argument("name")
@JSON
def create_snapshot(store: str, name: str, as_json: bool) -> None:
    """Let NAME stand for STORE as it is now.

    The store may be mounted.
    """
    from kvfs.store import snapshots

    made = snapshots.create(store, name)
    if as_json:
        print_json(made._asdict())


@snapshot_command.command(
    "list", epilog=examples("kvfs snapshot list store", "kvfs snapshot list store --json")
)
@click.argument("store", type=PATH)
@JSON
def list_snapshots(store: str, as_json: bool) -> None:
    """List the snapshots of STORE, the oldest first.

    A line has how many records come before it, its time and its name.
    """
    from kvfs.cli.past import show_snapshots

    show_snapshots(store, as_json=as_json)


@snapshot_command.command("delete", epilog=examples("kvfs snapshot delete store before-upgrade"))
@click.argument("store", type=PATH)
@click.argument("name", type=WHEN)
@JSON
def delete_snapshot(store: str, name: str, as_json: bool) -> None:
    """Forget the snapshot NAME; nothing else changes."""
    from kvfs.store import snapshots

    snapshots.delete(store, name)
    if as_json:
        print_json({"name": name})
