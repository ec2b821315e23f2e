"""The table as a whole: a refused record changes nothing, and files at rest are what they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvfs.errors import CorruptionError
from kvfs.records import (
    NO_ATTRS,
    Attrs,
    Delete,
    Link,
    Location,
    Mkdir,
    Mknod,
    Put,
    Removexattr,
    Rename,
    Setattr,
    Setxattr,
    Symlink,
    Truncate,
    Write,
)
from kvfs.table import Table, audit

KEYS = st.sampled_from(
    [b"a", b"b", b"d", b"d/a", b"d/b", b"d/e", b"d/e/a", b"", b"..", b"d//a", b"x" * 300]
)
FLAGS = st.booleans()
TIMES = st.none() | st.integers(0, 9)
ATTRS = st.just(NO_ATTRS) | st.builds(
    Attrs,
    mode=st.none() | st.sampled_from([0o600, 0o644]),
    uid=st.none() | st.sampled_from([0, 7]),
    gid=st.none() | st.sampled_from([0, 7]),
    atime=TIMES,
    mtime=TIMES,
    ctime=TIMES,
    born=TIMES,
    ino=st.none() | st.integers(14, 30),
)
DATA = st.sampled_from([b"", b"x", b"y" * 10])
RECORDS = st.one_of(
    st.builds(Put, KEYS, DATA, ATTRS),
    st.builds(Put, KEYS, DATA, st.just(NO_ATTRS)),
    st.builds(Delete, KEYS, FLAGS),
    st.builds(Write, KEYS, st.integers(0, 12), DATA),
    st.builds(Truncate, KEYS, st.integers(0, 12)),
    st.builds(Mkdir, KEYS, ATTRS),
    st.builds(Symlink, KEYS, DATA, ATTRS),
    st.builds(Mknod, KEYS, st.sampled_from([0o010644, 0o644]), st.just(0), ATTRS),
    st.builds(Link, KEYS, KEYS),
    st.builds(Rename, KEYS, KEYS, FLAGS, FLAGS, FLAGS),
    st.builds(Setattr, KEYS, ATTRS, FLAGS),
    st.builds(Setxattr, KEYS, st.just(b"user.n"), DATA, FLAGS),
    st.builds(Removexattr, KEYS, st.just(b"user.n"), FLAGS),
)


def looked_at(table):
    """Return everything that a table holds, waking nobody."""
    nodes = {}
    for ino in table.nodes:
        node = table.nodes.look(ino)
        kept = {}
        for kind in type(node).__mro__:
            for name in getattr(kind, "__slots__", ()):
                value = getattr(node, name)
                if name == "entries":  # in no order that counts
                    value = sorted(value.items())
                kept[name] = list(value.items()) if isinstance(value, dict) else value
        nodes[ino] = kept
    others = (table.next_ino, table.values, sorted(table._shadowed))
    return {ino: repr(nodes[ino]) for ino in sorted(nodes)}, others


def feed(records, after=lambda _table: None, refused=lambda _table, _before: None):
    table = Table(1000, 1001, 5)
    for count, record in enumerate(records, 1):
        before = looked_at(table)
        try:
            table.apply(record._replace(time=count * 10), Location(1, count * 100, 50))
        except CorruptionError:
            refused(table, before)
        after(table)
        table.detached.clear()
    return table


def unchanged(table, before):
    assert looked_at(table) == before


@given(st.lists(RECORDS, max_size=25))
def test_a_record_that_does_not_fit_changes_nothing(records):
    table = feed(records, refused=unchanged)
    assert list(audit(table)) == []


def test_no_directory_comes_aside():
    """As it would by changing places with a value that stands there."""
    table = Table(1000, 1001, 5)
    for record in (Put(b"a", b"x"), Mkdir(b"a"), Mkdir(b"b")):
        table.apply(record, Location(1, 64, 50))
    before = looked_at(table)
    for exchange in (
        Rename(b"a", b"b", new_directory=True, exchange=True),
        Rename(b"b", b"a", directory=True, exchange=True),
    ):
        with pytest.raises(CorruptionError, match="cannot stand aside"):
            table.apply(exchange, None)
    assert looked_at(table) == before


def settle(table):
    table.nodes._most_awake = -1
    table.nodes.settle(lambda _ino: False)
    table.nodes.settle(lambda _ino: False)


def wake(table):
    for ino in list(table.nodes):
        table.nodes.get(ino)


@given(st.lists(RECORDS, max_size=25))
def test_files_at_rest_are_what_they_were(records):
    resting, awake = feed(records, settle), feed(records, wake)
    one, two = looked_at(resting), looked_at(awake)
    assert [(k, one[0][k], two[0].get(k)) for k in one[0] if one[0][k] != two[0].get(k)] == []
    assert one == two
    assert sorted(resting.valued()) == sorted(awake.valued())
    assert list(audit(resting)) == []


def test_what_is_in_use_stays_awake_and_the_others_come_to_rest():
    table = feed([Put(b"%d" % number, b"x") for number in range(10)], wake)
    table.nodes._most_awake = 0
    used = table.find(b"1")
    for _ in range(20):
        table.nodes._most_awake = 0
        table.nodes.settle(lambda ino: ino == used.ino)
    assert table.find(b"1") is used
    assert table.nodes.place_of(table.number_of(b"2")) == (Location(1, 300, 50), 1)
    assert table.nodes.place_of(used.ino) is None
