"""The command `kvfs` and its verbs."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from kvfs import __version__, init
from kvfs.cli.access import reader, writer
from kvfs.cli.arguments import AT, JSON, KEY, PATH, SIZE, ByteSize
from kvfs.cli.output import printing
from kvfs.config import DEFAULT_HISTORY, DEFAULT_SEGMENT_SIZE, FORMATS
from kvfs.errors import in_words
from kvfs.store.compaction import DEFAULT, Policy

if TYPE_CHECKING:
    from kvfs.daemon import MountOptions

HISTORY = "The past to keep: a time (1d), a size (1GiB), both (1d,1GiB), 0 or all."
_PASSED_ON = frozenset(
    {"allow_other", "allow_root", "noatime", "nodev", "nosuid", "noexec", "exec", "suid", "dev"}
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kvfs")
def cli() -> None:
    """Keep a key-value store in a directory, and mount it as files."""


@cli.command("init")
@click.argument("store", type=PATH)
@click.option("--keep-history", default=DEFAULT_HISTORY, show_default=True, help=HISTORY)
@click.option("--format", "form", type=click.Choice(FORMATS), default="binary", show_default=True)
@click.option(
    "--max-segment-size",
    type=SIZE,
    default=ByteSize(DEFAULT_SEGMENT_SIZE),
    show_default=True,
    help="Size at which a segment is closed, such as 64MiB.",
)
def init_command(store: str, form: str, max_segment_size: int, keep_history: str) -> None:
    """Make a new store in a new or empty directory."""
    init(store, format=form, max_segment_size=max_segment_size, keep_history=keep_history)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("mountpoint", type=PATH)
@click.option("-f", "--foreground", is_flag=True, help="Stay in the foreground until unmounted.")
@click.option("-o", "options", multiple=True, metavar="OPT,...", help="Mount options.")
@click.option("--read-only", is_flag=True, help="Allow no changes.")
@AT
@click.option(
    "--busy-poll/--no-busy-poll",
    default=True,
    show_default=True,
    help="Look for the next request, or share the CPU of who sends it, before sleeping.",
)
@click.option(
    "--durability",
    type=click.Choice(["fsync", "always"]),
    default="fsync",
    show_default=True,
    help="What waits for the disk: fsync(2) alone, or every close(2) as well.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    metavar="RECORDS",
    help="Make a checkpoint after so many records, and not when it is worth its cost.",
)
@click.option("--keep-history", metavar="HOW MUCH", help=f"{HISTORY} From now on; kept in STORE.")
@click.option(
    "--compact-share",
    type=click.FloatRange(0, 1),
    default=DEFAULT.share,
    show_default=True,
    help="Compact when so large a share of the segments is dead.",
)
@click.option(
    "--compact-size",
    type=SIZE,
    default=ByteSize(DEFAULT.size),
    show_default=True,
    help="Compact when so many bytes are dead at least.",
)
def mount(
    store: str,
    mountpoint: str,
    foreground: bool,  # noqa: FBT001 - click's
    options: tuple[str, ...],
    read_only: bool,  # noqa: FBT001 - click's
    at: str | None,
    busy_poll: bool,  # noqa: FBT001 - click's
    durability: str,
    checkpoint_every: int | None,
    keep_history: str | None,
    compact_share: float,
    compact_size: int,
) -> None:
    """Mount STORE at the empty directory MOUNTPOINT; returns once it answers."""
    from kvfs import daemon

    read_only = read_only or at is not None
    chosen = _mount_options(options, read_only=read_only, durability=durability)
    chosen = chosen._replace(
        busy_poll=busy_poll,
        at=at,
        checkpoint_every=checkpoint_every,
        keep_history=keep_history,
        compact=Policy(compact_share, compact_size),
    )
    if foreground:
        daemon.run(store, mountpoint, chosen)
    else:
        daemon.start(os.path.abspath(store), os.path.abspath(mountpoint), chosen)


@cli.command()
@click.argument("mountpoint", type=PATH)
def unmount(mountpoint: str) -> None:
    """End the mount at MOUNTPOINT; returns once everything is synced."""
    from kvfs import daemon
    from kvfs.disk import Disk

    daemon.unmount(mountpoint, Disk())


@cli.command()
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@click.argument("value", type=KEY, required=False)
def put(store: str, key: bytes, value: bytes | None) -> None:
    """Set KEY to VALUE, or to what comes on standard input."""
    if value is None:
        # All of it first, so that nobody waits for the store while we wait for input.
        value = sys.stdin.buffer.read()
    with writer(store) as target:
        target.put(key, value)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@AT
def get(store: str, key: bytes, at: str | None) -> None:
    """Write the value of KEY to standard output, byte for byte."""
    with reader(store, at) as source:
        pieces = source.chunks(key)
        if pieces is None:
            _no_key(key)
        for piece in pieces:
            sys.stdout.buffer.write(piece)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
def delete(store: str, key: bytes) -> None:
    """Remove KEY; fails if it is not there."""
    with writer(store) as target:
        found = target.delete(key)
    if not found:
        _no_key(key)


@cli.command("list")
@click.argument("store", type=PATH)
@click.argument("prefix", type=KEY, default=b"")
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL, not with a newline.")
@AT
def list_command(store: str, prefix: bytes, null: bool, at: str | None) -> None:  # noqa: FBT001 - click's
    """List the keys that start with PREFIX, sorted."""
    end = b"\0" if null else b"\n"
    with reader(store, at) as source:
        for key in source.keys(prefix):
            sys.stdout.buffer.write(key + end)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("key", type=KEY, required=False)
@JSON
def log(store: str, key: bytes | None, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Show what was logged, oldest first: sequence number, time, owner, change.

    With KEY, only what happened to it, also under the names that it had before.
    """
    from kvfs.cli.past import show_log

    show_log(store, key, as_json=as_json)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("old", metavar="WHEN")
@click.argument("new", metavar="[WHEN]", required=False)
@JSON
def diff(store: str, old: str, new: str | None, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Show which keys came (+), went (-) or changed (~) from WHEN to WHEN, or to now.

    WHEN is as for --at: a sequence number, a time, how long ago, or a snapshot.
    """
    from kvfs.cli.past import show_diff

    show_diff(store, old, new, as_json=as_json)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("keys", metavar="KEY...", type=KEY, nargs=-1, required=True)
@click.option("--at", metavar="WHEN", required=True, help="The moment to bring back, as for get.")
def restore(store: str, keys: tuple[bytes, ...], at: str) -> None:
    """Let each KEY have the value, the owner and the mode again that it had at WHEN."""
    from kvfs.cli.restore import restore as bring_back

    bring_back(store, keys, at)


@cli.command()
@click.argument("store", type=PATH)
@click.option("--to", metavar="WHEN", required=True, help="The moment to go back to, as for get.")
def undo(store: str, to: str) -> None:
    """Let all keys be as they were at WHEN: what came since goes, what changed or went is back.

    It is written like anything else, so it can be undone itself. Links, special
    files and empty directories stay as they are.
    """
    from kvfs.cli.restore import undo as go_back

    back, removed = go_back(store, to)
    sys.stdout.write(f"brought back {back} keys, removed {removed}\n")


@cli.group()
def snapshot() -> None:
    """Give moments of a store names, for --at and diff."""


@snapshot.command("create")
@click.argument("store", type=PATH)
@click.argument("name")
def create_snapshot(store: str, name: str) -> None:
    """Let NAME stand for STORE as it is now, beside a mount or alone."""
    from kvfs.store import snapshots

    snapshots.create(store, name)


@snapshot.command("list")
@click.argument("store", type=PATH)
@JSON
def list_snapshots(store: str, as_json: bool) -> None:  # noqa: FBT001 - click's
    """List the snapshots of STORE, the oldest first, with how many records come before each."""
    from kvfs.cli.past import show_snapshots

    show_snapshots(store, as_json=as_json)


@snapshot.command("delete")
@click.argument("store", type=PATH)
@click.argument("name")
def delete_snapshot(store: str, name: str) -> None:
    """Forget the snapshot NAME; nothing else changes."""
    from kvfs.store import snapshots

    snapshots.delete(store, name)


@cli.command("export")
@click.argument("store", type=PATH)
@click.argument("file", type=PATH)
@AT
def export_command(store: str, file: str, at: str | None) -> None:
    """Write every key and value to the JSON Lines FILE; - is standard output."""
    from kvfs.cli.transfer import export_lines

    with reader(store, at) as source:
        export_lines(source, file)


@cli.command("import")
@click.argument("store", type=PATH)
@click.argument("file", type=PATH)
def import_command(store: str, file: str) -> None:
    """Put every key of the JSON Lines FILE, as export writes it; - is standard input."""
    from kvfs.cli.transfer import import_lines

    with writer(store) as target:
        import_lines(target, file)


@cli.command()
@click.argument("store", type=PATH)
@click.argument("directory", type=PATH)
@JSON
def backup(store: str, directory: str, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Copy STORE to DIRECTORY, beside a mount or alone; again, only what is new is copied.

    The copy is a store itself: mount it with --read-only, so that the next
    backup can go on.
    """
    from kvfs.cli.report import show_backup

    show_backup(store, directory, as_json=as_json)


@cli.command()
@click.argument("directory", metavar="DIRECTORY", type=PATH)
@JSON
def verify(directory: str, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Check a backup, as check does a store; exit with 1 if anything is damaged."""
    from kvfs.cli.report import show_check

    if not show_check(directory, as_json=as_json):
        sys.exit(1)


@cli.command()
@click.argument("store", type=PATH)
@JSON
def check(store: str, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Read and verify everything; exit with 1 if anything is damaged."""
    from kvfs.cli.report import show_check

    if not show_check(store, as_json=as_json):
        sys.exit(1)


@cli.command()
@click.argument("store", type=PATH)
@JSON
def stat(store: str, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Show what STORE is, who has it open, and whether it takes writes."""
    from kvfs.cli.report import show_stat

    show_stat(store, as_json=as_json)


@cli.command()
@click.argument("store", type=PATH)
@click.option("--keep-history", metavar="HOW MUCH", help=f"{HISTORY} Without: what STORE says.")
@JSON
def compact(store: str, keep_history: str | None, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Give back the space of what is dead, beside a mount or alone."""
    from kvfs.cli.compact import show_compact

    show_compact(store, keep_history, as_json=as_json)


@cli.command()
@click.argument("store", type=PATH)
@JSON
def repair(store: str, as_json: bool) -> None:  # noqa: FBT001 - click's
    """Salvage a damaged store that is not mounted, and list what is lost.

    Every record that still verifies is kept; the damaged segments stay in
    quarantine/ as they were.
    """
    from kvfs.cli.report import show_repair

    show_repair(store, as_json=as_json)


def main() -> NoReturn:
    """Run the command line and exit with its status.

    With KVFS_DEBUG in the environment, a bug shows its traceback.
    """
    if sys.stdin is None or sys.stdout is None:
        _fail("standard input and standard output must be open", 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # no name is a reason to fail
    logging.basicConfig(format="kvfs: %(message)s", level=logging.WARNING)
    try:
        # Not cli.main, which would make a failure of a reader that stops early.
        with printing(), cli.make_context("kvfs", sys.argv[1:]) as context:
            cli.invoke(context)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        sys.stderr.write(f"{error.format_message()}\n")
        sys.exit(2)
    except click.ClickException as error:
        at = getattr(error, "ctx", None)
        where = f"; see: {at.command_path} --help" if at else ""
        _fail(error.format_message().rstrip(".") + where, error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        if os.environ.get("KVFS_DEBUG"):
            raise
        _fail(_explain(error), 1)
    sys.exit(0)


def _explain(error: Exception) -> str:
    """Return what went wrong in one sentence."""
    if isinstance(error, OSError):
        return in_words(error)
    if isinstance(error, ImportError):
        return f"kvfs is not installed completely ({error}); run: ./mount.sh --setup"
    return f"this is a bug in kvfs: {error!r}; KVFS_DEBUG=1 shows where it comes from"


def _fail(message: str, status: int) -> NoReturn:
    line = " ".join(message.split())
    if sys.stderr is not None:
        sys.stderr.write(f"kvfs: {line}\n")
    sys.exit(status)


def _no_key(key: bytes) -> NoReturn:
    shown = key.decode(errors="backslashreplace")
    _fail(f"no key {shown!r}", 1)


def _mount_options(options: tuple[str, ...], *, read_only: bool, durability: str) -> MountOptions:
    from kvfs.daemon import MountOptions

    passed = []
    for option in ",".join(options).split(","):
        if option in {"", "rw"}:
            continue
        if option == "ro":
            read_only = True
        elif option in _PASSED_ON:
            passed.append(option)
        else:
            known = ", ".join(sorted({"ro", "rw", *_PASSED_ON}))
            message = f"unknown mount option {option!r}; known are {known}"
            raise click.UsageError(message)
    return MountOptions(read_only=read_only, durability=durability, options=tuple(passed))
