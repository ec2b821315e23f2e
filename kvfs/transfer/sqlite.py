"""A table or view of an SQLite database, opened for reading only."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from kvfs.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvfs.transfer.entries import Source

MAGIC = b"SQLite format 3\0"
_TABLES = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
_PAIR = 2
NO_VALUES = "rows whose value is NULL"


class _Columns(NamedTuple):
    table: str
    key: str
    value: str


def read(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values; text is UTF-8, and numbers are as SQLite writes them.

    Raises `KvfsError` naming the row, or what has to be named.
    """
    uri = f"file:{quote(os.path.abspath(source.path))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            database.text_factory = bytes
            yield from _rows(source, database, _choose(source, database))
    except (sqlite3.Error, UnicodeEncodeError) as error:
        raise source.bad("", f"the database cannot be read: {error}") from None


def _rows(
    source: Source, database: sqlite3.Connection, columns: _Columns
) -> Iterator[tuple[bytes, bytes]]:
    table, key, value = map(_quoted, columns)
    # What is neither text nor bytes becomes text; NULL stays.
    whole = "CASE WHEN typeof({0}) IN ('text', 'blob') THEN {0} ELSE CAST({0} AS TEXT) END"
    query = f"SELECT {whole.format(key)}, {whole.format(value)} FROM {table}"  # noqa: S608 - quoted
    for number, (found, content) in enumerate(database.execute(query), 1):
        if found is None:
            raise source.bad(f"row {number} of {columns.table}", "the key is NULL")
        if content is not None:
            yield found, content
        elif source.skip_others:
            source.skipped[NO_VALUES] += 1
        else:
            what = f"the value of {quoted(found)} is NULL; --skip-others passes over such rows"
            raise source.bad(f"row {number} of {columns.table}", what)


def _choose(source: Source, database: sqlite3.Connection) -> _Columns:
    """Return which columns of which table are the keys and the values."""
    tables = {name: _columns(database, name) for name in _names(database.execute(_TABLES))}
    if source.table is not None:
        if source.table not in tables:
            raise source.bad("", f"there is no table {source.table!r}; there is {_list(tables)}")
        tables = {source.table: tables[source.table]}
    for pick in (_by_name, _by_number):
        fitting = [found for name in tables if (found := pick(source, name, tables[name]))]
        if len(fitting) == 1:
            return fitting[0]
    if len(tables) == 1:
        (name, columns) = tables.popitem()
        what = f"name two of the columns of {name} with --key-column and --value-column:"
        raise source.bad("", f"{what} {_list(columns)}")
    if not tables:
        raise source.bad("", "the database has no table")
    raise source.bad("", f"name one of its tables with --table: {_list(tables)}")


def _by_name(source: Source, table: str, columns: list[str]) -> _Columns | None:
    """Return the columns of `table` that were named, or are called key and value."""
    names = {column.lower(): column for column in columns}
    key = names.get((source.key_column or "key").lower())
    value = names.get((source.value_column or "value").lower())
    return None if key is None or value is None else _Columns(table, key, value)


def _by_number(source: Source, table: str, columns: list[str]) -> _Columns | None:
    """Return the columns of `table` if there are just two, and nobody named any."""
    asked = source.key_column or source.value_column
    return None if asked or len(columns) != _PAIR else _Columns(table, *columns)


def _columns(database: sqlite3.Connection, table: str) -> list[str]:
    return _names(database.execute("SELECT name FROM pragma_table_info(?)", (table,)))


def _names(rows: sqlite3.Cursor) -> list[str]:
    return [name.decode(errors="surrogateescape") for (name,) in rows]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(names: list[str] | dict[str, list[str]]) -> str:
    return ", ".join(sorted(names)) or "none"
