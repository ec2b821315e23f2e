"""The verbs that read and write keys."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from kvfs.cli.access import reader, writer
from kvfs.cli.arguments import AT, JSON, KEY, PATH, VALUE, examples
from kvfs.cli.output import fail, print_json
from kvfs.errors import quoted
from kvfs.store.kv import ANY

IF_VERSION = click.option(
    "--if-version",
    metavar="VERSION",
    default=ANY,
    help="Only if KEY has this version; an empty one means: only if it is not there.",
)


@click.command(
    "put",
    epilog=examples(
        "kvfs put store config/port 8080",
        "kvfs put store logo.png < logo.png",
        "kvfs put store session/7 alice --ttl 2h",
        "kvfs put store lock mine --if-version ''",
        "kvfs put store -- -key-with-a-dash value",
    ),
)
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@click.argument("value", type=VALUE, required=False)
@IF_VERSION
@click.option(
    "--ttl", metavar="TIME", help="Remove KEY after so long: seconds, or 90s, 5m, 2h, 1d."
)
def put_command(
    store: str, key: bytes, value: bytes | None, if_version: str, ttl: str | None
) -> None:
    """Set KEY to VALUE, or to what comes on standard input."""
    if value is None:
        # All of it first, so that nobody waits for the store while we wait for input.
        value = sys.stdin.buffer.read()
    with writer(store) as target:
        target.put(key, value, if_version=if_version or None, ttl=ttl)


@click.command(
    "get",
    epilog=examples(
        "kvfs get store config/port",
        "kvfs get store logo.png > logo.png",
        "kvfs get store config/port --at '2h ago'",
    ),
)
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@AT
def get_command(store: str, key: bytes, at: str | None) -> None:
    """Write the value of KEY to standard output, byte for byte."""
    with reader(store, at) as source:
        pieces = source.chunks(key)
        if pieces is None:
            _no_key(key)
        for piece in pieces:
            sys.stdout.buffer.write(piece)


@click.command(
    "version",
    epilog=examples("kvfs version store config/port"),
)
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
def version_command(store: str, key: bytes) -> None:
    """Print what names the state of KEY, for --if-version.

    It is another one after each change.
    """
    with reader(store) as source:
        found = source.version(key)
    if found is None:
        _no_key(key)
    sys.stdout.write(found + "\n")


@click.command("delete", epilog=examples("kvfs delete store config/port"))
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@IF_VERSION
def delete_command(store: str, key: bytes, if_version: str) -> None:
    """Remove KEY; fails if it is not there."""
    with writer(store) as target:
        found = target.delete(key, if_version=if_version or None)
    if not found:
        _no_key(key)


@click.command(
    "list",
    epilog=examples(
        "kvfs list store",
        "kvfs list store config/ --json",
        "kvfs list -0 store | xargs -0 -n 1 kvfs get store",
    ),
)
@click.argument("store", type=PATH)
@click.argument("prefix", type=KEY, default=b"")
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL, not with a newline.")
@AT
@JSON
def list_command(store: str, prefix: bytes, null: bool, at: str | None, as_json: bool) -> None:
    """List the keys that start with PREFIX, sorted."""
    from kvfs.store.listing import field

    if null and as_json:
        message = "-0 and --json exclude each other"
        raise click.UsageError(message)
    end = b"\0" if null else b"\n"
    with reader(store, at) as source:
        for key in source.keys(prefix):
            if as_json:
                print_json(field("key", key), indent=None)
            else:
                sys.stdout.buffer.write(key + end)


def _no_key(key: bytes) -> NoReturn:
    """Exit as where there is no `key`."""
    fail(f"no key {quoted(key)}", 1)
