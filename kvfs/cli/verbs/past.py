"""The verbs about the past of a store."""

from __future__ import annotations

import sys

import click

from kvfs.cli.arguments import JSON, KEY, PATH


@click.command("log")
@click.argument("store", type=PATH)
@click.argument("key", type=KEY, required=False)
@JSON
def log_command(store: str, key: bytes | None, as_json: bool) -> None:
    """Show what was logged, oldest first: sequence number, time, owner, change.

    With KEY, only what happened to it, also under the names that it had before.
    """
    from kvfs.cli.past import show_log

    show_log(store, key, as_json=as_json)


@click.command("diff")
@click.argument("store", type=PATH)
@click.argument("old", metavar="WHEN")
@click.argument("new", metavar="[WHEN]", required=False)
@JSON
def diff_command(store: str, old: str, new: str | None, as_json: bool) -> None:
    """Show which keys came (+), went (-) or changed (~) from WHEN to WHEN, or to now.

    WHEN is as for --at: a sequence number, a time, how long ago, or a snapshot.
    """
    from kvfs.cli.past import show_diff

    show_diff(store, old, new, as_json=as_json)


@click.command("restore")
@click.argument("store", type=PATH)
@click.argument("keys", metavar="KEY...", type=KEY, nargs=-1, required=True)
@click.option("--at", metavar="WHEN", required=True, help="The moment to bring back, as for get.")
def restore_command(store: str, keys: tuple[bytes, ...], at: str) -> None:
    """Let each KEY have the value, the owner and the mode again that it had at WHEN."""
    from kvfs.cli.restore import restore as bring_back

    bring_back(store, keys, at)


@click.command("undo")
@click.argument("store", type=PATH)
@click.option("--to", metavar="WHEN", required=True, help="The moment to go back to, as for get.")
def undo_command(store: str, to: str) -> None:
    """Let all keys be as they were at WHEN: what came since goes, what changed or went is back.

    It is written like anything else, so it can be undone itself. Links, special
    files and empty directories stay as they are.
    """
    from kvfs.cli.restore import undo as go_back

    back, removed = go_back(store, to)
    sys.stdout.write(f"brought back {back} keys, removed {removed}\n")


@click.group("snapshot")
def snapshot_command() -> None:
    """Give moments of a store names, for --at and diff."""


@snapshot_command.command("create")
@click.argument("store", type=PATH)
@click.argument("name")
def create_snapshot(store: str, name: str) -> None:
    """Let NAME stand for STORE as it is now, beside a mount or alone."""
    from kvfs.store import snapshots

    snapshots.create(store, name)


@snapshot_command.command("list")
@click.argument("store", type=PATH)
@JSON
def list_snapshots(store: str, as_json: bool) -> None:
    """List the snapshots of STORE, the oldest first, with how many records come before each."""
    from kvfs.cli.past import show_snapshots

    show_snapshots(store, as_json=as_json)


@snapshot_command.command("delete")
@click.argument("store", type=PATH)
@click.argument("name")
def delete_snapshot(store: str, name: str) -> None:
    """Forget the snapshot NAME; nothing else changes."""
    from kvfs.store import snapshots

    snapshots.delete(store, name)
