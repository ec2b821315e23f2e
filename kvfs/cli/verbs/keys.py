"""The verbs that read and write keys."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from kvfs.cli.access import reader, writer
from kvfs.cli.arguments import AT, KEY, PATH
from kvfs.cli.output import fail
from kvfs.store.kv import ANY

IF_VERSION = click.option(
    "--if-version",
    metavar="VERSION",
    default=ANY,
    help="Only if KEY has this version; an empty one means: only if it is not there.",
)


@click.command("put")
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@click.argument("value", type=KEY, required=False)
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


@click.command("get")
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


@click.command("version")
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
def version_command(store: str, key: bytes) -> None:
    """Print what names the state of KEY, for --if-version: another one after each change."""
    with reader(store) as source:
        found = source.version(key)
    if found is None:
        _no_key(key)
    sys.stdout.write(found + "\n")


@click.command("delete")
@click.argument("store", type=PATH)
@click.argument("key", type=KEY)
@IF_VERSION
def delete_command(store: str, key: bytes, if_version: str) -> None:
    """Remove KEY; fails if it is not there."""
    with writer(store) as target:
        found = target.delete(key, if_version=if_version or None)
    if not found:
        _no_key(key)


@click.command("list")
@click.argument("store", type=PATH)
@click.argument("prefix", type=KEY, default=b"")
@click.option("-0", "--null", is_flag=True, help="End each key with a NUL, not with a newline.")
@AT
def list_command(store: str, prefix: bytes, null: bool, at: str | None) -> None:
    """List the keys that start with PREFIX, sorted."""
    end = b"\0" if null else b"\n"
    with reader(store, at) as source:
        for key in source.keys(prefix):
            sys.stdout.buffer.write(key + end)


def _no_key(key: bytes) -> NoReturn:
    """Exit as where there is no `key`."""
    shown = key.decode(errors="backslashreplace")
    fail(f"no key {shown!r}", 1)
