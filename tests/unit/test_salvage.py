"""What is kept of logs that have lost single records, and what is said of the keys."""

import pytest
from histories import TIME, logged
from wounded import values

import kvfs
from kvfs.errors import KvfsError
from kvfs.records import (
    Attrs,
    Delete,
    Link,
    Mkdir,
    Put,
    Rename,
    Setattr,
    Symlink,
    Write,
)
from kvfs.store.repair import repair
from kvfs.store.verify import check


class Gone:
    """A record that the log has lost: a bit of it is wrong, or, with `zero`, all of it is zeros."""

    def __init__(self, record, *, zero=False):
        self.record = record
        self.zero = zero


def repaired(path, *plan):
    """Log the records of `plan`, damage those that are `Gone`, repair; return what that did."""
    records = [entry.record if isinstance(entry, Gone) else entry for entry in plan]
    places = logged(path, [record._replace(time=TIME + n) for n, record in enumerate(records)])
    file = path / "segments" / "00000001.seg"
    data = bytearray(file.read_bytes())
    for entry, place in zip(plan, places, strict=True):
        if isinstance(entry, Gone) and entry.zero:
            data[place.offset : place.offset + place.length] = bytes(place.length)
        elif isinstance(entry, Gone):
            data[place.offset + 16] ^= 1
    file.write_bytes(data)
    done = repair(path)
    assert not check(path).damaged
    return done


def states(done):
    return {fate.key: fate.state for fate in done.fates}


def modes(path):
    with kvfs.open(path, read_only=True) as store:
        table = store._core.table
        nodes = (table.nodes.look(ino) for ino in table.nodes)
        return {table.key_of(node): node.mode & 0o7777 for node in nodes if node.ino >= 16}


@pytest.mark.parametrize("lost", [Delete(b"b"), Rename(b"b", b"c")])
def test_no_value_is_put_through_a_link_that_may_be_stale(tmp_path, lost):
    path = tmp_path / "s"
    done = repaired(
        path,
        Put(b"a", b"AAAAAAAA"),
        Link(b"a", b"b"),
        Gone(lost),
        Put(b"b", b"bbbbbbbb"),
        Write(b"a", 0, b"XX"),
    )
    assert values(path) == {b"a": b"AAAAAAAA", b"b": b"bbbbbbbb"}
    assert states(done)[b"a"] == "older"


def test_two_names_of_which_the_link_is_lost_are_not_both_whole(tmp_path):
    path = tmp_path / "s"
    done = repaired(
        path,
        Put(b"a", b"AAAA"),
        Gone(Link(b"a", b"b")),
        Put(b"a", b"BBBB"),
        Put(b"b", b"CCCC"),
        Write(b"a", 0, b"X"),
    )
    assert values(path) == {b"a": b"BBBB", b"b": b"CCCC"}
    assert states(done)[b"a"] == "older"


def test_a_value_that_came_from_a_key_that_has_lost_some_is_older(tmp_path):
    done = repaired(
        tmp_path / "s",
        Put(b"b", b"old"),
        Put(b"a", b"x"),
        Gone(Put(b"b", b"NEW")),
        Gone(Put(b"a", b"y")),
        Rename(b"b", b"a"),
    )
    assert states(done) == {b"b": "older", b"a": "older"}


FILE, DIRECTORY = Attrs(mode=0o600), Attrs(mode=0o700)


@pytest.mark.parametrize(
    ("plan", "key", "mode"),
    [
        ([Put(b"a", b"1"), Gone(Delete(b"a")), Put(b"a", b"secret", FILE)], b"a", 0o600),
        ([Gone(Put(b"a", b"1", FILE), zero=True), Put(b"a", b"secret")], b"a", 0o600),
        (
            [
                Put(b"a", b"secret", FILE),
                Gone(Delete(b"a")),
                Gone(Put(b"a", b"public", FILE)),
                Setattr(b"a", Attrs(mode=0o644)),
            ],
            b"a",
            0o600,
        ),
        (
            [
                Mkdir(b"d", Attrs(mode=0o755)),
                Gone(Delete(b"d", directory=True)),
                Mkdir(b"d", DIRECTORY),
                Put(b"d/s", b"secret"),
            ],
            b"d",
            0o700,
        ),
        (
            [
                Mkdir(b"d", DIRECTORY),
                Put(b"d/s", b"secret"),
                Gone(Rename(b"d", b"e", directory=True)),
                Gone(Mkdir(b"d", DIRECTORY)),
                Setattr(b"d", Attrs(mode=0o755), directory=True),
            ],
            b"d",
            0o700,
        ),
        ([Gone(Mkdir(b"d", DIRECTORY)), Put(b"d/s", b"secret")], b"d", 0o700),
    ],
)
def test_nothing_comes_back_more_public_than_it_was(tmp_path, plan, key, mode):
    path = tmp_path / "s"
    repaired(path, *plan)
    assert modes(path)[key] == mode
    assert b"secret" in values(path).values()


def test_what_is_in_the_way_of_something_new_goes(tmp_path):
    path = tmp_path / "s"
    repaired(path, Symlink(b"a", b"x"), Gone(Delete(b"a")), Put(b"a", b"1"), Put(b"a", b"2"))
    assert values(path) == {b"a": b"2"}
    path = tmp_path / "t"
    repaired(path, Put(b"a", b"1"), Put(b"z", b"2"), Gone(Delete(b"a")), Link(b"z", b"a"))
    assert values(path) == {b"a": b"2", b"z": b"2"}


@pytest.mark.parametrize(
    "rest",
    [
        [Gone(Put(b"q", b"q")), Rename(b"q", b"k/y"), Delete(b"k/y")],  # the rename is refused
        [Gone(Put(b"q", b"q")), Put(b"k/y", b"2"), Delete(b"k/y")],
    ],
)
def test_directories_that_are_for_nothing_go_again(tmp_path, rest):
    path = tmp_path / "s"
    repaired(path, Put(b"k", b"1"), *rest)
    with kvfs.open(path, read_only=True) as store:
        assert store.files.stat(store.files.lookup(1, b"k")).size == 1


def test_a_disk_that_refuses_the_new_log_ends_the_repair(tmp_path, monkeypatch):
    path = tmp_path / "s"
    plan = [Put(b"a", b"1"), Mkdir(b"d", DIRECTORY), Put(b"d/f", b"2")]
    places = logged(path, [record._replace(time=TIME + n) for n, record in enumerate(plan)])
    file = path / "segments" / "00000001.seg"
    data = bytearray(file.read_bytes())
    data[places[1].offset + 16] ^= 1
    file.write_bytes(data)
    from kvfs.log import Log

    true = Log.append

    def append(log, records, **kwargs):
        if any(isinstance(record, Mkdir) for record in records):
            raise KvfsError("no more", 28)
        return true(log, records, **kwargs)

    monkeypatch.setattr(Log, "append", append)
    with pytest.raises(KvfsError, match="no more"):
        repair(path)
    assert file.read_bytes() == bytes(data)
    monkeypatch.undo()
    assert repair(path).kept
    assert values(path) == {b"a": b"1", b"d/f": b"2"}


def test_what_looks_like_records_does_not_hide_what_is_missing(tmp_path):
    path = tmp_path / "s"
    fake = path.parent / "fake"
    logged(fake, [Put(b"f%d" % n, b"x") for n in range(4)])
    inside = (fake / "segments" / "00000001.seg").read_bytes()[64:]
    records = [
        Put(b"v", inside),
        *[Put(b"%d" % n, b"A" * 60) for n in range(4)],
        Put(b"z", b"z" * 300),
    ]
    places = logged(path, records, size=800)
    assert places[-1].segment == 2
    file = path / "segments" / "00000001.seg"
    data = bytearray(file.read_bytes())
    del data[places[1].offset :]
    data[places[0].offset + 8] = 2 + 1  # the length of the body: the key alone
    file.write_bytes(data)
    done = repair(path)
    assert any("records are missing" in entry.reason for entry in done.lost)
