"""The types of arguments, how a shell completes them, and the options that several verbs have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from kvfs.units import format_size, parse_size

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class ByteSize(int):
    """A number of bytes that shows itself as people write it."""

    __slots__ = ()

    def __str__(self) -> str:
        """Return for example 64MiB."""
        return format_size(int(self))


class _SizeType(click.ParamType[int]):
    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> ByteSize:
        if isinstance(value, int):
            return ByteSize(value)
        size = parse_size(value)
        if size is None:
            self.fail(f"{value!r} is no size; write for example 65536, 64KiB or 64MiB", param, ctx)
        return ByteSize(size)


class _PathType(click.ParamType[str]):
    name = "path"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("a path cannot be empty", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self._kind)]


class _MountpointType(_PathType):
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from kvfs.cli.candidates import mountpoints

        return mountpoints(incomplete)


class _BytesType(click.ParamType[bytes]):
    name = "bytes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        return value if isinstance(value, bytes) else os.fsencode(value)


class _KeyType(_BytesType):
    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from kvfs.cli.candidates import keys

        return keys(_store_of(ctx), incomplete)


class _MomentType(click.ParamType[str]):
    name = "when"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        from kvfs.cli.candidates import snapshots

        return snapshots(_store_of(ctx), incomplete)


def _store_of(ctx: click.Context) -> str | None:
    """Return the argument `store` of a verb that is being typed; its words are in `ctx.obj`."""
    store = ctx.params.get("store")
    if store is None and ctx.obj:
        # The last word is an option without its value yet: then click understands nothing.
        words = ctx.obj[len(ctx.command_path.split()) - 1 :]
        whole = ctx.command.make_context(ctx.info_name, [*words, "?"], resilient_parsing=True)
        store = whole.params.get("store")
    return store


def examples(*lines: str) -> str:
    """Return the end of the help of a verb: commands that work, one a line."""
    return "\b\nExamples:\n" + "\n".join(f"  $ {line}" for line in lines)


SIZE = _SizeType()
"""A size in bytes: `65536`, `64KiB`, `64MiB`; units are powers of 1024."""
PATH = _PathType("dir")
"""The path of a directory; an empty one is a mistake, mostly of an unset variable."""
FILE = _PathType("file")
"""The path of a file."""
MOUNTPOINT = _MountpointType("dir")
"""Where a store is mounted."""
KEY = _KeyType()
"""A key of the argument `store`: the bytes as the shell gave them."""
VALUE = _BytesType()
"""A value, in the same way."""
WHEN = _MomentType()
"""A moment of the argument `store`, or the name of a snapshot of it."""
AT = click.option(
    "--at",
    type=WHEN,
    metavar="WHEN",
    help="As it was then: a sequence number, a time such as 2026-11-28T12:30, '2h ago', or a snapshot.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
HISTORY = "The past to keep: a time (1d), a size (1GiB), both (1d,1GiB), 0 or all."
