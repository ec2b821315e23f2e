"""SQLite on a mount: locks, journals and shared memory between real processes."""

import signal
import sqlite3

import pytest

WRITER = """
import sqlite3, sys
name, count = sys.argv[1], int(sys.argv[2])
base = sqlite3.connect("base", timeout=60, isolation_level=None)
base.execute("pragma synchronous = normal")
for number in range(count):
    base.execute("begin immediate")
    (before,) = base.execute("select total from sums").fetchone()
    base.execute("insert into rows values (?, ?, ?)", (name, number, "x" * (number * 37 % 3000)))
    base.execute("update sums set total = ?", (before + 1,))
    base.execute("commit")
base.close()
"""

# A cache of a few pages makes SQLite write to the database, or its log, before the commit.
INTERRUPTED = """
import sqlite3, sys
base = sqlite3.connect("base", timeout=60, isolation_level=None)
base.execute("pragma cache_size = 5")
base.execute("begin immediate")
base.execute("update rows set text = text || 'half done'")
base.executemany("insert into rows values ('lost', ?, ?)", ((n, "y" * 2000) for n in range(500)))
print("written", flush=True)
sys.stdin.read()
"""

MODES = [(form, mode) for form in ("binary", "text") for mode in ("delete", "wal")]
MODES += [("binary", "truncate"), ("binary", "persist")]


@pytest.fixture(params=MODES, ids="-".join)
def mode(request):
    return request.param


@pytest.fixture
def mounted(mode, stores):
    """Return a mount with a database of the journal mode of the test."""
    mounted = stores.make(mode[0])
    base = connect(mounted)
    assert base.execute(f"pragma journal_mode = {mode[1]}").fetchone() == (mode[1],)
    base.execute(
        "create table rows (writer text, number integer, text text, primary key (writer, number))"
    )
    base.execute("create table sums (total integer)")
    base.execute("insert into sums values (0)")
    base.close()
    return mounted


def connect(mounted):
    return sqlite3.connect(mounted.path / "base", timeout=60, isolation_level=None)


def ask(mounted, query):
    base = connect(mounted)
    try:
        return base.execute(query).fetchall()
    finally:
        base.close()


def sound(mounted):
    return ask(mounted, "pragma integrity_check") == [("ok",)]


def test_writers_at_once_lose_nothing(mounted, python, finish):
    writers = [python(WRITER, name, 40, cwd=mounted.path) for name in "abc"]
    for writer in writers:
        finish(writer)
    expected = [(name, number) for name in "abc" for number in range(40)]
    for _ in range(2):
        assert sound(mounted)
        assert ask(mounted, "select total from sums") == [(120,)]
        assert ask(mounted, "select writer, number from rows order by 1, 2") == expected
        assert ask(mounted, "select sum(length(text)) from rows") == [
            (3 * sum(number * 37 % 3000 for number in range(40)),)
        ]
        mounted.remount()


def test_a_writer_that_dies_in_a_transaction_leaves_nothing(mounted, mode, python, finish):
    finish(python(WRITER, "first", 30, cwd=mounted.path))
    before = ask(mounted, "select * from rows order by 1, 2")
    size = (mounted.path / "base").stat().st_size
    dying = python(INTERRUPTED, cwd=mounted.path)
    assert dying.stdout.readline() == "written\n"
    log = mounted.path / ("base-wal" if mode[1] == "wal" else "base-journal")
    assert log.stat().st_size > 0
    if mode[1] != "wal":
        assert (mounted.path / "base").stat().st_size > size
    dying.send_signal(signal.SIGKILL)
    dying.wait()

    assert ask(mounted, "select * from rows order by 1, 2") == before
    assert sound(mounted)
    finish(python(WRITER, "second", 5, cwd=mounted.path))
    mounted.remount()
    assert sound(mounted)
    assert ask(mounted, "select count(*), total from rows, sums") == [(35, 35)]


def test_a_journal_left_behind_is_rolled_back_after_a_remount(mounted, python, finish):
    finish(python(WRITER, "first", 30, cwd=mounted.path))
    before = ask(mounted, "select * from rows order by 1, 2")
    dying = python(INTERRUPTED, cwd=mounted.path)
    assert dying.stdout.readline() == "written\n"
    dying.kill()
    dying.wait()
    mounted.remount()
    assert ask(mounted, "select * from rows order by 1, 2") == before
    assert sound(mounted)


def test_reading_by_a_mapping(stores, python, finish):
    mounted = stores.make("binary")
    reader = connect(mounted)
    reader.execute("create table rows (writer text, number integer, text text)")
    reader.execute("create table sums (total integer)")
    reader.execute("insert into sums values (0)")
    (mapped,) = reader.execute("pragma mmap_size = 67108864").fetchone()
    assert mapped == 67108864
    for turn in range(1, 4):
        finish(python(WRITER, turn, 20, cwd=mounted.path))
        assert reader.execute("select total from sums").fetchone() == (20 * turn,)
        assert len(reader.execute("select * from rows").fetchall()) == 20 * turn
    reader.execute("update rows set text = 'mapped'")
    reader.close()
    mounted.remount()
    assert sound(mounted)
    assert ask(mounted, "select distinct text from rows") == [("mapped",)]
