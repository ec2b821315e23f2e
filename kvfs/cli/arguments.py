"""The types of arguments: byte strings and sizes."""

from __future__ import annotations

import os
from typing import Any

import click

from kvfs.units import format_size, parse_size


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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("a path cannot be empty", param, ctx)
        return str(value)


class _BytesType(click.ParamType[bytes]):
    name = "bytes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        return value if isinstance(value, bytes) else os.fsencode(value)


SIZE = _SizeType()
"""A size in bytes: `65536`, `64KiB`, `64MiB`; units are powers of 1024."""
PATH = _PathType()
"""A path; an empty one is a mistake, mostly of an unset variable."""
KEY = _BytesType()
"""A key or a value: the bytes as the shell gave them."""
AT = click.option(
    "--at",
    metavar="WHEN",
    help="As it was then: a sequence number, a time such as 2026-11-28T12:30, '2h ago', or a snapshot.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
HISTORY = "The past to keep: a time (1d), a size (1GiB), both (1d,1GiB), 0 or all."
